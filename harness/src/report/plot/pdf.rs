//! Scenes as PDF: vectors, and texts in the bundled font, of which only the letters that are used are embedded.

use ab_glyph::{Font, FontRef};
use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str};
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
const UNITS: f32 = 1000.0;
const FONT_NAME: Name = Name(b"F");
const IDENTITY: SystemInfo = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

/// The letters that a scene uses, by their numbers in the embedded font.
struct Letters<'a> {
    font: FontRef<'a>,
    glyphs: GlyphRemapper,
    known: Vec<(u16, char, f32)>,
}

/// The scene as a PDF file of one page of its size.
///
/// # Errors
/// A bug only.
pub fn pdf(scene: &Scene) -> Result<Vec<u8>> {
    let font = FontRef::try_from_slice(FONT).map_err(internal)?;
    let mut letters = Letters { font, glyphs: GlyphRemapper::new(), known: Vec::new() };
    let content = draw(scene, &mut letters);
    let [catalog, pages, page, contents, font] = [1, 2, 3, 4, 5].map(Ref::new);
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(pages);
    pdf.pages(pages).kids([page]).count(1);
    let mut leaf = pdf.page(page);
    let [width, height] = [scene.size.0, scene.size.1].map(|side| (side * SCALE) as f32);
    leaf.media_box(Rect::new(0.0, 0.0, width, height)).parent(pages).contents(contents);
    leaf.resources().fonts().pair(FONT_NAME, font);
    leaf.finish();
    pdf.stream(contents, &content);
    letters.write(&mut pdf, font)?;
    Ok(pdf.finish())
}

fn draw(scene: &Scene, letters: &mut Letters) -> Vec<u8> {
    let mut content = Content::new();
    // Logical pixels from the top left corner, as in the scene; texts are turned back.
    content.transform([SCALE as f32, 0.0, 0.0, -SCALE as f32, 0.0, (scene.size.1 * SCALE) as f32]);
    for primitive in &scene.primitives {
        match primitive {
            Primitive::Path { points, color, width, opacity } => {
                stroke(&mut content, mixed(*color, *opacity), *width);
                line(&mut content, points);
                content.stroke();
            }
            Primitive::Rect { at, size, color } => {
                fill(&mut content, *color);
                content.rect(at.0 as f32, at.1 as f32, size.0 as f32, size.1 as f32).fill_nonzero();
            }
            Primitive::Mark { at, mark, color, radius, hollow } => {
                fill(&mut content, if *hollow { (255, 255, 255) } else { *color });
                stroke(&mut content, *color, 1.5);
                line(&mut content, &outline(*at, *mark, *radius));
                content.close_path().fill_nonzero_and_stroke();
            }
            Primitive::Text(text) => letters.show(&mut content, text),
        }
    }
    content.finish().to_vec()
}

/// A colour over white.
fn mixed(color: Rgb, opacity: f64) -> Rgb {
    let mix = |part: u8| (255.0 + (f64::from(part) - 255.0) * opacity).round() as u8;
    (mix(color.0), mix(color.1), mix(color.2))
}

fn share(part: u8) -> f32 {
    f32::from(part) / 255.0
}

fn fill(content: &mut Content, color: Rgb) {
    content.set_fill_rgb(share(color.0), share(color.1), share(color.2));
}

fn stroke(content: &mut Content, color: Rgb, width: f64) {
    content.set_stroke_rgb(share(color.0), share(color.1), share(color.2)).set_line_width(width as f32);
}

fn line(content: &mut Content, points: &[Point]) {
    for (index, point) in points.iter().enumerate() {
        let (x, y) = (point.0 as f32, point.1 as f32);
        if index == 0 {
            content.move_to(x, y)
        } else {
            content.line_to(x, y)
        };
    }
}

impl Letters<'_> {
    /// Number and width of a letter in the embedded font.
    fn glyph(&mut self, letter: char) -> (u16, f32) {
        let id = self.font.glyph_id(letter);
        let width = self.font.h_advance_unscaled(id) * UNITS / self.font.units_per_em().unwrap_or(UNITS);
        let number = self.glyphs.remap(id.0);
        if !self.known.iter().any(|(known, ..)| *known == number) {
            self.known.push((number, letter, width));
        }
        (number, width)
    }

    fn show(&mut self, content: &mut Content, text: &Text) {
        let glyphs: Vec<(u16, f32)> = text.text.chars().map(|letter| self.glyph(letter)).collect();
        let width = f64::from(glyphs.iter().map(|(_, width)| width).sum::<f32>() / UNITS) * text.size;
        let left = match text.align {
            Align::Left => text.at.0,
            Align::Center => text.at.0 - width / 2.0,
            Align::Right => text.at.0 - width,
        };
        let bytes: Vec<u8> = glyphs.iter().flat_map(|(number, _)| number.to_be_bytes()).collect();
        fill(content, text.color);
        content.begin_text().set_font(FONT_NAME, text.size as f32);
        content.set_text_matrix([1.0, 0.0, 0.0, -1.0, left as f32, (text.at.1 + HALF_CAPITAL * text.size) as f32]);
        content.show(Str(&bytes)).end_text();
    }

    /// The font with the letters that were shown.
    fn write(self, pdf: &mut Pdf, font: Ref) -> Result<()> {
        let [descendant, descriptor, file, cmap] = [6, 7, 8, 9].map(Ref::new);
        let name = Name(b"AAAAAA+DejaVuSans");
        pdf.type0_font(font)
            .base_font(name)
            .encoding_predefined(Name(b"Identity-H"))
            .descendant_font(descendant)
            .to_unicode(cmap);
        let mut cid = pdf.cid_font(descendant);
        cid.subtype(CidFontType::Type2).base_font(name).system_info(IDENTITY).font_descriptor(descriptor);
        cid.cid_to_gid_map_predefined(Name(b"Identity"));
        let mut widths = cid.widths();
        self.known.iter().for_each(|(number, _, width)| {
            widths.consecutive(*number, [*width]);
        });
        widths.finish();
        cid.finish();
        pdf.font_descriptor(descriptor)
            .name(name)
            .flags(FontFlags::NON_SYMBOLIC)
            .bbox(Rect::new(-1021.0, -463.0, 1793.0, 1232.0))
            .italic_angle(0.0)
            .ascent(928.0)
            .descent(-236.0)
            .cap_height(729.0)
            .stem_v(80.0)
            .font_file2(file);
        let mut unicode = UnicodeCmap::<u16>::new(Name(b"letters"), IDENTITY);
        self.known.iter().for_each(|(number, letter, _)| unicode.pair(*number, *letter));
        pdf.cmap(cmap, unicode.finish().as_slice());
        let subset = subsetter::subset(FONT, 0, &self.glyphs).map_err(internal)?;
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, &subset).map_err(internal)?;
        let packed = packed.finish().map_err(internal)?;
        pdf.stream(file, &packed).filter(Filter::FlateDecode).pair(Name(b"Length1"), subset.len() as i32);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::scene::{INK, Mark};

    #[test]
    fn a_page_of_the_scenes_size_with_its_texts() {
        let mut scene = Scene::new(200.0, 100.0);
        scene.text((10.0, 50.0), Align::Left, 12.0, INK, "SoRA ± 0.5");
        scene.mark((100.0, 50.0), Mark::Circle, (0, 114, 178), 5.0, false);
        let bytes = pdf(&scene).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("%PDF-") && text.contains("/MediaBox [0 0 150 75]"), "{text}");
        assert!(bytes.len() < 60_000, "only the letters that are used are embedded: {} bytes", bytes.len());
    }
}
