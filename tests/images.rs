//! Images that come in, as files of the kinds that people have: they are seen as viewers show them, and what is none is
//! refused before anything is made of it.

use std::fs;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use png::{BitDepth, ColorType};

use crate::cli::{sentence, text, tintype};
use crate::models::folder::{Temp, golden};

/// Of a block of one colour, in pixels: what JPEG stores without loss.
const BLOCK: usize = 16;

/// Blocks of grey, row after row.
struct Blocks {
    width: usize,
    height: usize,
    greys: Vec<u8>,
}

impl Blocks {
    /// Two across and three down, all of another grey.
    fn upright() -> Blocks {
        Blocks { width: 2, height: 3, greys: vec![20, 60, 100, 140, 180, 220] }
    }

    /// As a camera stores it that was held in this way: an EXIF orientation says where the first row and the first
    /// column of what is stored are seen.
    fn stored(&self, orientation: u16) -> Blocks {
        let (right, bottom) = (self.width - 1, self.height - 1);
        let at = |x: usize, y: usize| match orientation {
            1 => (x, y),
            2 => (right - x, y),
            3 => (right - x, bottom - y),
            4 => (x, bottom - y),
            5 => (y, x),
            6 => (right - y, x),
            7 => (right - y, bottom - x),
            8 => (y, bottom - x),
            other => panic!("no orientation {other}"),
        };
        let turned = orientation > 4;
        let (width, height) = if turned { (self.height, self.width) } else { (self.width, self.height) };
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let greys = places.map(|(x, y)| at(x, y)).map(|(x, y)| self.greys[y * self.width + x]).collect();
        Blocks { width, height, greys }
    }

    /// Width and height in pixels, and three bytes for each.
    fn rgb(&self) -> (u32, u32, Vec<u8>) {
        let (width, height) = (self.width * BLOCK, self.height * BLOCK);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x / BLOCK, y / BLOCK)));
        let rgb = places.flat_map(|(x, y)| [self.greys[y * self.width + x]; 3]).collect();
        (width as u32, height as u32, rgb)
    }
}

/// The EXIF of a file with this orientation alone: a header, one entry, and no further directory.
fn exif(orientation: u16) -> Vec<u8> {
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation as u8, 0, 0, 0, 0, 0, 0]);
    exif
}

fn png(blocks: &Blocks, exif: Option<Vec<u8>>) -> Vec<u8> {
    let (width, height, rgb) = blocks.rgb();
    png_of(width, height, (ColorType::Rgb, BitDepth::Eight), None, exif, &rgb)
}

fn png_of(
    width: u32,
    height: u32,
    (color, depth): (ColorType, BitDepth),
    palette: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
    data: &[u8],
) -> Vec<u8> {
    let mut info = png::Info::with_size(width, height);
    (info.color_type, info.bit_depth) = (color, depth);
    (info.palette, info.exif_metadata) = (palette.map(Into::into), exif.map(Into::into));
    let mut bytes = vec![];
    let mut writer = png::Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A PNG whose EXIF stands behind its pixels.
fn late(mut png: Vec<u8>) -> Vec<u8> {
    let find = |png: &[u8], name: &[u8]| png.windows(4).position(|four| four == name).unwrap() - 4;
    let at = find(&png, b"eXIf");
    let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
    let chunk: Vec<u8> = png.drain(at..at + length + 12).collect();
    let end = find(&png, b"IEND");
    png.splice(end..end, chunk);
    png
}

fn jpeg(blocks: &Blocks, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = vec![];
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
    exif.into_iter().for_each(|exif| encoder.set_exif_metadata(exif).unwrap());
    let (width, height, rgb) = blocks.rgb();
    encoder.write_image(&rgb, width, height, ExtendedColorType::Rgb8).unwrap();
    bytes
}

fn webp(blocks: &Blocks, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = vec![];
    let mut encoder = WebPEncoder::new_lossless(&mut bytes);
    exif.into_iter().for_each(|exif| encoder.set_exif_metadata(exif).unwrap());
    let (width, height, rgb) = blocks.rgb();
    encoder.write_image(&rgb, width, height, ExtendedColorType::Rgb8).unwrap();
    bytes
}

fn run(folder: &Temp, image: &Path) -> std::process::Output {
    let model = golden("sd15-like");
    let common = ["generate", "a boat", "--seed", "1", "--steps", "2", "--weights", "f32", "--device", "cpu"];
    let image = ["--strength", "0.5", "--model", model.to_str().unwrap(), "--image", image.to_str().unwrap()];
    tintype(&[&common[..], &image].concat()).current_dir(&folder.0).output().unwrap()
}

/// The PNG that is drawn from an image's file.
fn drawn(folder: &Temp, image: &[u8]) -> Vec<u8> {
    // The name says nothing of what it is.
    folder.write("image", image);
    let output = run(folder, &folder.path("image"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::read(folder.path("out.png")).unwrap()
}

#[test]
fn every_orientation_of_every_format() {
    let folder = Temp::new();
    let upright = Blocks::upright();
    type Encode = fn(&Blocks, Option<Vec<u8>>) -> Vec<u8>;
    let formats: [(&str, Encode); 3] = [("png", png), ("jpeg", jpeg), ("webp", webp)];
    for (name, encode) in formats {
        let wanted = drawn(&folder, &encode(&upright, None));
        for orientation in 1..=8 {
            let stored = upright.stored(orientation);
            let found = drawn(&folder, &encode(&stored, Some(exif(orientation))));
            assert!(found == wanted, "{name} of orientation {orientation}");
        }
        // What is none turns nothing, and every one but the first changes something.
        assert!(drawn(&folder, &encode(&upright, Some(exif(9)))) == wanted, "{name}");
        assert!(drawn(&folder, &encode(&upright, Some(exif(3)))) != wanted, "{name}");
    }
    let wanted = drawn(&folder, &png(&upright, None));
    assert!(drawn(&folder, &late(png(&upright.stored(6), Some(exif(6))))) == wanted);
    let marked = [b"Exif\0\0".to_vec(), exif(8)].concat();
    assert!(drawn(&folder, &webp(&upright.stored(8), Some(marked))) == wanted);
    assert!(drawn(&folder, &webp(&upright, None)) == wanted, "both are without loss");
}

/// Sixteen bits count by their higher eight, alpha not at all, fewer bits are spread over all levels.
#[test]
fn pixels_of_a_png() {
    let folder = Temp::new();
    let (width, height) = (16, 8);
    let greys: Vec<u8> = (0..width * height).map(|i| (i * 2) as u8).collect();
    let each = |of: &dyn Fn(u8) -> Vec<u8>| greys.iter().flat_map(|&grey| of(grey)).collect::<Vec<u8>>();
    let plain = |color, depth, data: &[u8]| png_of(width, height, (color, depth), None, None, data);
    use BitDepth::{Eight, One, Sixteen};
    let wanted = drawn(&folder, &plain(ColorType::Rgb, Eight, &each(&|v| vec![v; 3])));
    for (what, bytes) in [
        ("grey", plain(ColorType::Grayscale, Eight, &greys)),
        ("grey and alpha", plain(ColorType::GrayscaleAlpha, Eight, &each(&|v| vec![v, 255 - v]))),
        ("alpha", plain(ColorType::Rgba, Eight, &each(&|v| vec![v, v, v, v / 2]))),
        ("wide", plain(ColorType::Rgb, Sixteen, &each(&|v| [v, 255].repeat(3)))),
        ("wide grey", plain(ColorType::Grayscale, Sixteen, &each(&|v| vec![v, 200]))),
    ] {
        assert!(drawn(&folder, &bytes) == wanted, "{what}");
    }
    let palette = (0..=255).flat_map(|v: u8| [255 - v; 3]).collect();
    let indices: Vec<u8> = greys.iter().map(|v| 255 - v).collect();
    let indexed = png_of(width, height, (ColorType::Indexed, Eight), Some(palette), None, &indices);
    assert!(drawn(&folder, &indexed) == wanted, "a palette");
    let bits = [0b1010_0000, 0b1111_0011].repeat(8);
    let levels: Vec<u8> =
        bits.iter().flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit & 1) * 255)).collect();
    let wanted = drawn(&folder, &plain(ColorType::Grayscale, Eight, &levels));
    assert!(drawn(&folder, &plain(ColorType::Grayscale, One, &bits)) == wanted, "one bit");
}

/// A few bytes that claim to be a large image.
fn bombs() -> [(&'static str, Vec<u8>, &'static str); 3] {
    let blocks = Blocks::upright();
    let mut header = vec![];
    drop(png::Encoder::new(&mut header, 65535, 65535).write_header().unwrap());
    // A mark, the header, and all that follows the header of another one.
    header.truncate(8 + 25);
    header.extend(&png(&blocks, None)[8 + 25..]);
    let mut wide = jpeg(&blocks, None);
    let frame = wide.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    wide[frame + 5..frame + 9].fill(255);
    // Fourteen bits each, less one, behind a byte that marks them.
    let mut lossless = webp(&blocks, None);
    let data = lossless.windows(4).position(|four| four == b"VP8L").unwrap();
    lossless[data + 9..data + 13].copy_from_slice(&(0x3ffe_u32 | 0x3ffe << 14).to_le_bytes());
    [("png", header, "65535x65535"), ("jpeg", wide, "65535x65535"), ("webp", lossless, "16383x16383")]
}

#[test]
fn what_is_no_image() {
    let folder = Temp::new();
    let blocks = Blocks::upright();
    let refused = |bytes: &[u8], words: &[&str]| {
        folder.write("image", bytes);
        let said = sentence(&run(&folder, &folder.path("image")));
        let known = said.contains("image: ") && said.ends_with(" (invalid-image)");
        assert!(known && words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        assert!(!folder.path("out.png").exists());
    };
    for (format, bytes, size) in bombs() {
        assert!(bytes.len() < 4000, "{format}");
        refused(&bytes, &["wanted at most 178956970 pixels", size]);
    }
    refused(b"", &["wanted a PNG, JPEG or WebP"]);
    refused(b"<html>not found</html>", &["wanted a PNG, JPEG or WebP"]);
    refused(b"GIF89a and more", &["wanted a PNG, JPEG or WebP", "Gif"]);
    for encode in [png, jpeg, webp] {
        let whole = encode(&blocks, None);
        for part in [whole.len() / 2, whole.len() - whole.len() / 20] {
            refused(&whole[..part], &[]);
        }
    }
    // A thumbnail has an end of its own.
    let mut thumbnail = exif(1);
    thumbnail.extend(jpeg(&blocks, None));
    let whole = jpeg(&blocks, Some(thumbnail));
    refused(&whole[..whole.len() - 20], &["wanted the whole image"]);

    let said = sentence(&run(&folder, &folder.0));
    assert!(said.ends_with("(invalid-image)"), "{said}");
    let said = sentence(&run(&folder, &folder.path("absent.png")));
    assert!(said.contains("absent.png") && said.ends_with("(not-found)"), "{said}");
    if cfg!(unix) {
        let said = sentence(&run(&folder, Path::new("/dev/zero")));
        assert!(said.contains("wanted a PNG, JPEG or WebP"), "{said}");
    }
}
