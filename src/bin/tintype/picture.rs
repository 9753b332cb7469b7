//! Images in and out: PNG, JPEG and WebP files are read, PNG files are written.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use tintype::error::{Code, Error, Result};
use tintype::image::Picture;
use tintype::pipeline::Image;

use crate::output::Output;

/// The most pixels of an image that is read: those that Pillow refuses to go beyond.
const MOST_PIXELS: u64 = 178_956_970;

/// The most bytes of an image's file.
const MOST_BYTES: u64 = 1 << 30;

/// An image as viewers show it, upright, without its alpha, in eight bits. What the file is, its bytes tell, not its name.
pub fn read_image(path: &Path) -> Result<Picture> {
    let failed = |e: &dyn Display| Error::new(Code::InvalidImage, format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(|e| Error::not_found(format!("{}: {e}", path.display())))?;
    let (format, bytes) = read(file).map_err(|e| failed(&e))?;
    let image = match format {
        ImageFormat::Png => png(&bytes),
        other => decode(&bytes, other),
    };
    let image = image.map_err(|e| failed(&e))?;
    Ok(Picture { width: image.width() as usize, height: image.height() as usize, rgb: image.into_raw() })
}

/// A file's bytes, if it is an image of a known format.
fn read(mut file: File) -> std::result::Result<(ImageFormat, Vec<u8>), String> {
    // What is no image may have no end.
    let mut bytes = vec![];
    let said = |e: io::Error| e.to_string();
    file.by_ref().take(64).read_to_end(&mut bytes).map_err(said)?;
    let format = match image::guess_format(&bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        Ok(other) => return Err(format!("wanted a PNG, JPEG or WebP, found {other:?}")),
        Err(_) => return Err("wanted a PNG, JPEG or WebP, found none of them".to_owned()),
    };
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("wanted at most {MOST_BYTES} bytes, found more"));
    }
    Ok((format, bytes))
}

fn check_size(width: u32, height: u32) -> std::result::Result<(), String> {
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!("wanted at most {MOST_PIXELS} pixels, found {width}x{height}"));
    }
    Ok(())
}

fn png(bytes: &[u8]) -> std::result::Result<RgbImage, String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    // Nothing of them is used, and little can become much.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let said = |e: png::DecodingError| e.to_string();
    let (width, height) = decoder.read_header_info().map_err(said)?.size();
    check_size(width, height)?;
    let mut reader = decoder.read_info().map_err(said)?;
    let mut bytes = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let info = reader.next_frame(&mut bytes).map_err(said)?;
    bytes.truncate(info.buffer_size());
    let rgb = match info.color_type.samples() {
        1 => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
        2 => bytes.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        3 => bytes,
        _ => bytes.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
    };
    // The orientation may stand behind the pixels; where nothing can be read any more there is none.
    let _ = reader.finish();
    let image = RgbImage::from_raw(width, height, rgb).ok_or("wanted as many pixels as it says")?;
    Ok(upright(image.into(), reader.info().exif_metadata.as_deref()))
}

/// A JPEG or a WebP.
fn decode(bytes: &[u8], format: ImageFormat) -> std::result::Result<RgbImage, String> {
    let said = |e: image::ImageError| e.to_string();
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(said)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if format == ImageFormat::Jpeg && !is_whole(bytes) {
        return Err("wanted the whole image, found its beginning alone".to_owned());
    }
    let exif = decoder.exif_metadata().map_err(said)?;
    Ok(upright(DynamicImage::from_decoder(decoder).map_err(said)?, exif.as_deref()))
}

/// Whether a JPEG goes on to the end of its image: a decoder makes grey of what is missing.
fn is_whole(jpeg: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&[0xff, marker]) = jpeg.get(at..at + 2) {
        at += match (marker, jpeg.get(at + 2..at + 4)) {
            (0xd9, _) => return true,
            (0xff, _) => 1,
            // An escaped byte, and what has no length.
            (0x00 | 0x01 | 0xd0..=0xd8, _) => 2,
            (_, Some(&[high, low])) => 2 + usize::from(u16::from_be_bytes([high, low])),
            (_, _) => return false,
        };
        // Coded values follow some segments.
        let rest = jpeg.get(at..).unwrap_or_default();
        at += rest.iter().position(|&byte| byte == 0xff).unwrap_or(rest.len());
    }
    false
}

/// As its EXIF says that it is held.
fn upright(mut image: DynamicImage, exif: Option<&[u8]>) -> RgbImage {
    // Some write the mark of JPEG's segment elsewhere too.
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
    if let Some(orientation) = exif.and_then(Orientation::from_exif_chunk) {
        image.apply_orientation(orientation);
    }
    image.into_rgb8()
}

pub fn write_png(output: &Output, image: &Image) -> Result<()> {
    let rgb: Vec<u8> = image.rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let encoded = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&rgb)?;
        writer.finish()
    });
    encoded.map_err(|e| Error::new(Code::Internal, format!("cannot encode the image: {e}")))?;
    output.write(&bytes)
}
