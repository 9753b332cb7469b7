//! PNG files in and out, and files that are never left half-written.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tintype::error::{Code, Error, Result};
use tintype::image::Picture;
use tintype::pipeline::Image;

/// A PNG of any kind, without its alpha, in eight bits.
pub fn read_png(path: &Path) -> Result<Picture> {
    let failed = |e: &dyn std::fmt::Display| Error::model(format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(|e| Error::not_found(format!("{}: {e}", path.display())))?;
    let mut decoder = png::Decoder::new(BufReader::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| failed(&e))?;
    let mut bytes = vec![0; reader.output_buffer_size().ok_or_else(|| failed(&"too large"))?];
    let info = reader.next_frame(&mut bytes).map_err(|e| failed(&e))?;
    bytes.truncate(info.buffer_size());
    let channels = info.color_type.samples();
    if channels < 3 {
        bytes = bytes.chunks_exact(channels).flat_map(|grey| [grey[0]; 3]).collect();
    }
    Picture::new(info.width as usize, info.height as usize, channels.max(3), &bytes)
}

pub fn write_png(path: &Path, image: &Image) -> Result<()> {
    let rgb: Vec<u8> = image.rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let encoded = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&rgb)?;
        writer.finish()
    });
    encoded.map_err(|e| Error::new(Code::Internal, format!("cannot encode {}: {e}", path.display())))?;
    write_whole(path, &bytes)
}

/// Writes beside the target first, so that nothing half-made is ever left under its name, nor elsewhere.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let written = std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|e| {
        // Where nothing could be written there is nothing to remove.
        let _ = std::fs::remove_file(&partial);
        Error::network(format!("cannot write {}: {e}", path.display()))
    })
}
