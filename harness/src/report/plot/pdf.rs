//! Scenes as PDF: vectors, and texts in the bundled font, of which only the letters that are used are embedded.

use std::collections::BTreeMap;
use std::fmt::Write;

use ab_glyph::{Font, FontRef};
use subsetter::GlyphRemapper;

use crate::analysis::frame::typed::internal;
use crate::error::Result;
use crate::report::plot::render::{FONT, outline};
use crate::report::plot::scene::{Align, Point, Primitive, Rgb, Scene, Text};

/// Points of a page for each logical pixel: CSS's 96 to an inch.
const SCALE: f64 = 0.75;
/// Distance from the baseline to half the height of a capital, as a share of the font size.
const HALF_CAPITAL: f64 = 0.365;
/// Units of a glyph's width in a PDF.
const UNITS: f64 = 1000.0;
/// Numbers of the objects of a file, in their order.
const OBJECTS: [&str; 5] = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents 6 0 R /Resources << /Font << /F 4 0 R >> >> >>",
    "<< /Type /Font /Subtype /Type0 /BaseFont /AAAAAA+DejaVuSans /Encoding /Identity-H /DescendantFonts [5 0 R] \
     /ToUnicode 9 0 R >>",
    "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /AAAAAA+DejaVuSans /CIDSystemInfo << /Registry (Adobe) /Ordering \
     (Identity) /Supplement 0 >> /FontDescriptor 7 0 R /CIDToGIDMap /Identity /W [{widths}] >>",
];
const DESCRIPTOR: &str = "<< /Type /FontDescriptor /FontName /AAAAAA+DejaVuSans /Flags 32 /FontBBox [-1021 -463 1793 1232] \
                          /ItalicAngle 0 /Ascent 928 /Descent -236 /CapHeight 729 /StemV 80 /FontFile2 8 0 R >>";

/// The letters that a scene uses, by their numbers in the embedded font, each with its width.
struct Letters {
    font: FontRef<'static>,
    glyphs: GlyphRemapper,
    known: BTreeMap<u16, (char, f64)>,
}

/// The scene as a PDF file of one page of its size.
///
/// # Errors
/// A bug only.
pub fn pdf(scene: &Scene) -> Result<Vec<u8>> {
    let font = FontRef::try_from_slice(FONT).map_err(internal)?;
    let mut letters = Letters { font, glyphs: GlyphRemapper::new(), known: BTreeMap::new() };
    let content = draw(scene, &mut letters);
    let [width, height] = [scene.size.0, scene.size.1].map(|side| (side * SCALE).to_string());
    let widths: String = letters.known.iter().map(|(number, (_, width))| format!("{number} [{width:.0}] ")).collect();
    let filled = |text: &str| {
        text.replace("{width}", &width).replace("{height}", &height).replace("{widths}", widths.trim_end()).into_bytes()
    };
    let subset = subsetter::subset(FONT, 0, &letters.glyphs).map_err(internal)?;
    let mut objects: Vec<Vec<u8>> = OBJECTS.iter().map(|text| filled(text)).collect();
    objects.push(stream(content.as_bytes(), "")?);
    objects.push(DESCRIPTOR.into());
    objects.push(stream(&subset, &format!("/Length1 {}", subset.len()))?);
    objects.push(stream(letters.unicode().as_bytes(), "")?);
    Ok(file(&objects))
}

/// A file of these objects, numbered from 1; the first is the catalogue.
fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut places = String::new();
    for (index, object) in objects.iter().enumerate() {
        // An entry of the table is 20 bytes long, its line end two of them.
        places += &format!("{:010} 00000 n \n", bytes.len());
        bytes.extend(format!("{} 0 obj\n", index + 1).bytes());
        bytes.extend(object);
        bytes.extend(b"\nendobj\n");
    }
    let (start, size) = (bytes.len(), objects.len() + 1);
    let end = format!(
        "xref\n0 {size}\n0000000000 65535 f \n{places}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    );
    bytes.extend(end.bytes());
    bytes
}

/// A compressed stream with further entries of its dictionary.
fn stream(bytes: &[u8], entries: &str) -> Result<Vec<u8>> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packer, bytes).map_err(internal)?;
    let packed = packer.finish().map_err(internal)?;
    let mut object = format!("<< /Length {} /Filter /FlateDecode {entries} >>\nstream\n", packed.len()).into_bytes();
    object.extend(packed);
    object.extend(b"\nendstream");
    Ok(object)
}

fn draw(scene: &Scene, letters: &mut Letters) -> String {
    // Logical pixels from the top left corner, as in the scene; texts are turned back.
    let mut content = format!("{SCALE} 0 0 -{SCALE} 0 {} cm\n1 j\n", scene.size.1 * SCALE);
    for primitive in &scene.primitives {
        content += &match primitive {
            Primitive::Path { points, color, width, opacity } => {
                format!("{} RG {width} w {}S\n", rgb(mixed(*color, *opacity)), line(points))
            }
            Primitive::Rect { at, size, color } => {
                format!("{} rg {:.2} {:.2} {:.2} {:.2} re f\n", rgb(*color), at.0, at.1, size.0, size.1)
            }
            Primitive::Mark { at, mark, color, radius, hollow } => {
                let inside = if *hollow { (255, 255, 255) } else { *color };
                let corners = line(&outline(*at, *mark, *radius));
                format!("{} rg {} RG 1.5 w {corners}b\n", rgb(inside), rgb(*color))
            }
            Primitive::Text(text) => letters.show(text),
        };
    }
    content
}

/// A colour over white.
fn mixed(color: Rgb, opacity: f64) -> Rgb {
    let mix = |part: u8| (255.0 + (f64::from(part) - 255.0) * opacity).round() as u8;
    (mix(color.0), mix(color.1), mix(color.2))
}

fn rgb((red, green, blue): Rgb) -> String {
    [red, green, blue].map(|part| format!("{:.3}", f64::from(part) / 255.0)).join(" ")
}

fn line(points: &[Point]) -> String {
    let command = |(index, point): (usize, &Point)| {
        format!("{:.2} {:.2} {} ", point.0, point.1, if index == 0 { "m" } else { "l" })
    };
    points.iter().enumerate().map(command).collect()
}

impl Letters {
    /// Number and width of a letter in the embedded font.
    fn glyph(&mut self, letter: char) -> (u16, f64) {
        let id = self.font.glyph_id(letter);
        let units = f64::from(self.font.units_per_em().unwrap_or(UNITS as f32));
        let width = f64::from(self.font.h_advance_unscaled(id)) * UNITS / units;
        let number = self.glyphs.remap(id.0);
        self.known.entry(number).or_insert((letter, width));
        (number, width)
    }

    fn show(&mut self, text: &Text) -> String {
        let glyphs: Vec<(u16, f64)> = text.text.chars().map(|letter| self.glyph(letter)).collect();
        let width = glyphs.iter().map(|(_, width)| width).sum::<f64>() / UNITS * text.size;
        let left = match text.align {
            Align::Left => text.at.0,
            Align::Center => text.at.0 - width / 2.0,
            Align::Right => text.at.0 - width,
        };
        let shown: String = glyphs.iter().map(|(number, _)| format!("{number:04x}")).collect();
        let baseline = text.at.1 + HALF_CAPITAL * text.size;
        format!("{} rg BT /F {} Tf 1 0 0 -1 {left:.2} {baseline:.2} Tm <{shown}> Tj ET\n", rgb(text.color), text.size)
    }

    /// The map from numbers to letters, by which a viewer copies and finds texts.
    fn unicode(&self) -> String {
        let mut map = String::from(
            "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /Letters def /CMapType 2 def\n\
             1 begincodespacerange <0000> <ffff> endcodespacerange\n",
        );
        // At most 100 lines a block.
        for block in self.known.iter().collect::<Vec<_>>().chunks(100) {
            let _ = writeln!(map, "{} beginbfchar", block.len());
            for (number, (letter, _)) in block {
                let units: String = letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("{unit:04x}")).collect();
                let _ = writeln!(map, "<{number:04x}> <{units}>");
            }
            map += "endbfchar\n";
        }
        map + "endcmap end end\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::scene::{INK, Mark};

    #[test]
    fn a_page_of_the_scenes_size_with_the_letters_that_are_used() {
        let mut scene = Scene::new(200.0, 100.0);
        scene.text((10.0, 50.0), Align::Left, 12.0, INK, "SoRA ± 0.5");
        scene.mark((100.0, 50.0), Mark::Circle, (0, 114, 178), 5.0, false);
        let bytes = pdf(&scene).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("%PDF-") && text.contains("/MediaBox [0 0 150 75]"), "{text}");
        assert!(bytes.len() < 60_000, "{} bytes", bytes.len());
        // Every entry of the table points to its object.
        let table = text.rsplit("xref\n").nth(1).unwrap();
        assert_eq!(table.lines().filter(|line| line.ends_with(" n ")).count(), 9);
        for (index, entry) in table.lines().filter(|line| line.ends_with(" n ")).enumerate() {
            let place: usize = entry[..10].parse().unwrap();
            assert!(bytes[place..].starts_with(format!("{} 0 obj", index + 1).as_bytes()), "{entry}");
        }
    }
}
