//! Scenes on plotters backends: SVG and PNG, with the bundled font, the same bytes every time.

use std::sync::OnceLock;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

use crate::analysis::frame::typed::internal;
use crate::error::{Error, Result};
use crate::report::plot::scene::{Align, Mark, Point, Primitive, Rgb, Scene};

/// DejaVu Sans; it is wider than most sans-serif fonts, so a viewer's own font fits as well.
pub static FONT: &[u8] = include_bytes!("../../../assets/DejaVuSans.ttf");
/// Name in the SVG: any viewer has one.
const FAMILY: FontFamily<'static> = FontFamily::SansSerif;
/// Width of a hollow mark's edge in logical pixels.
const EDGE: f64 = 2.0;
/// Pixels of the PNG for each logical pixel.
const PNG_SCALE: f64 = 2.0;

/// Draws on any backend; `scale` is its pixels for each logical pixel.
///
/// # Errors
/// A failure of the backend.
pub fn draw<B: DrawingBackend>(scene: &Scene, area: &DrawingArea<B, Shift>, scale: f64) -> Result<()> {
    ready()?;
    area.fill(&WHITE).map_err(internal)?;
    for primitive in &scene.primitives {
        let drawn = match primitive {
            Primitive::Path { points, color, width, opacity } => {
                let style = rgb(*color).mix(*opacity).stroke_width((width * scale).round().max(1.0) as u32);
                area.draw(&PathElement::new(points.iter().map(|p| pixel(*p, scale)).collect::<Vec<_>>(), style))
            }
            Primitive::Rect { at, size, color } => {
                let corners = [pixel(*at, scale), pixel((at.0 + size.0, at.1 + size.1), scale)];
                area.draw(&Rectangle::new(corners, rgb(*color).filled()))
            }
            Primitive::Mark { at, mark, color, radius, hollow } => {
                let filled = |radius: f64, color: RGBColor| {
                    let corners = outline(*at, *mark, radius).iter().map(|p| pixel(*p, scale)).collect::<Vec<_>>();
                    area.draw(&Polygon::new(corners, color.filled()))
                };
                // Two areas instead of a line: a wide closed line has gaps and notches at its corners.
                let outer = filled(*radius + EDGE / 2.0, rgb(*color));
                if *hollow { outer.and_then(|()| filled(*radius - EDGE / 2.0, WHITE)) } else { outer }
            }
            Primitive::Text(text) => {
                let color = rgb(text.color);
                let style = TextStyle::from(font(text.size * scale)).color(&color).pos(anchor(text.align));
                area.draw(&plotters::element::Text::new(text.text.clone(), pixel(text.at, scale), style))
            }
        };
        drawn.map_err(internal)?;
    }
    area.present().map_err(internal)
}

/// The scene as SVG.
///
/// # Errors
/// A bug only.
pub fn svg(scene: &Scene) -> Result<String> {
    let mut text = String::new();
    {
        let size = (scene.size.0.ceil() as u32, scene.size.1.ceil() as u32);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(scene, &area, 1.0)?;
    }
    Ok(text)
}

/// The scene as PNG.
///
/// # Errors
/// A bug only.
pub fn png(scene: &Scene) -> Result<Vec<u8>> {
    let (width, height) = ((scene.size.0 * PNG_SCALE).ceil() as u32, (scene.size.1 * PNG_SCALE).ceil() as u32);
    // Red, green and blue of every pixel.
    let mut pixels = vec![0; 3 * width as usize * height as usize];
    draw(scene, &BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(), PNG_SCALE)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    encoder.set_adaptive_filter(png::AdaptiveFilterType::Adaptive);
    let mut writer = encoder.write_header().map_err(internal)?;
    writer.write_image_data(&pixels).and_then(|()| writer.finish()).map_err(internal)?;
    Ok(bytes)
}

/// Width of a text in logical pixels.
pub fn text_width(text: &str, size: f64) -> f64 {
    // Measured large: the font's layout gives whole pixels.
    const TIMES: f64 = 10.0;
    let measured = ready().ok().and_then(|()| font(size * TIMES).box_size(text).ok());
    measured.map_or(text.chars().count() as f64 * size * 0.6, |(width, _)| f64::from(width) / TIMES)
}

/// The text, cut with `…` so that it is at most `width` wide.
pub fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_string();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while !kept.is_empty() {
        kept.pop();
        let shortened: String = kept.iter().chain(['…'].iter()).collect();
        if text_width(&shortened, size) <= width {
            return shortened;
        }
    }
    String::new()
}

fn ready() -> Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = REGISTERED.get_or_init(|| register_font(FAMILY.as_str(), FontStyle::Normal, FONT).is_ok());
    if *registered { Ok(()) } else { Err(Error::Internal("the bundled font is damaged".into())) }
}

fn font(size: f64) -> FontDesc<'static> {
    FontDesc::new(FAMILY, size, FontStyle::Normal)
}

fn rgb(color: Rgb) -> RGBColor {
    RGBColor(color.0, color.1, color.2)
}

fn pixel(point: Point, scale: f64) -> (i32, i32) {
    ((point.0 * scale).round() as i32, (point.1 * scale).round() as i32)
}

fn anchor(align: Align) -> Pos {
    let horizontal = match align {
        Align::Left => HPos::Left,
        Align::Center => HPos::Center,
        Align::Right => HPos::Right,
    };
    Pos::new(horizontal, VPos::Center)
}

/// Corners of a mark.
pub fn outline((x, y): Point, mark: Mark, r: f64) -> Vec<Point> {
    match mark {
        Mark::Circle => {
            let at = |i: i32| f64::from(i) * std::f64::consts::TAU / 24.0;
            (0..24).map(|i| (x + r * at(i).cos(), y + r * at(i).sin())).collect()
        }
        Mark::Square => vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
        Mark::Triangle => vec![(x, y - 1.2 * r), (x + 1.1 * r, y + 0.8 * r), (x - 1.1 * r, y + 0.8 * r)],
        Mark::Diamond => vec![(x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)],
    }
}
