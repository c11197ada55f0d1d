//! A graph as PNG (RFC 2083), at twice its own size. All that is on it is upright rectangles and text, so no library of vector
//! graphics is needed, which would be larger than the rest of the page; the text is of Noto Sans Mono (SIL Open Font License 1.1),
//! as pixels.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::{Anchor, Area, Canvas, Paint, Tone};

/// How many pixels a unit is.
const SCALE: f64 = 2.0;
const SIZE: RasterHeight = RasterHeight::Size20;
/// How far above the baseline a text's pixels begin.
const ASCENT: f64 = 16.0;

type Colour = [u8; 3];

const INK: Colour = [0x22; 3];
const HATCH: Colour = [0x99; 3];
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A picture that is drawn.
pub(super) struct Png {
    width: usize,
    height: usize,
    /// Row by row.
    pixels: Vec<Colour>,
}

impl Png {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let [width, height] = [width, height].map(|of| (of * SCALE).ceil() as usize);
        Self { width, height, pixels: vec![[0xff; 3]; width * height] }
    }

    /// The file.
    pub(super) fn end(self) -> Vec<u8> {
        let side = |of: usize| u32::try_from(of).unwrap_or(u32::MAX).to_be_bytes();
        let mut file = SIGNATURE.to_vec();
        // Eight bits each of red, green and blue.
        chunk(&mut file, b"IHDR", &[&side(self.width)[..], &side(self.height), &[8, 2, 0, 0, 0]].concat());
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
        for row in self.pixels.chunks(self.width.max(1)) {
            // No filter. A vector takes all that is written.
            let _ = packed.write_all(&[0]).and_then(|()| packed.write_all(row.as_flattened()));
        }
        chunk(&mut file, b"IDAT", &packed.finish().unwrap_or_default());
        chunk(&mut file, b"IEND", &[]);
        file
    }

    /// Lays a colour over a pixel, 255 hiding what was there.
    fn blend(&mut self, x: usize, y: usize, colour: Colour, cover: u8) {
        if x >= self.width {
            return;
        }
        let Some(pixel) = self.pixels.get_mut(y * self.width + x) else { return };
        for (below, above) in pixel.iter_mut().zip(colour) {
            let mixed = u32::from(*below) * u32::from(255 - cover) + u32::from(above) * u32::from(cover);
            *below = u8::try_from((mixed + 127) / 255).unwrap_or(u8::MAX);
        }
    }

    fn area(&mut self, (x, y, width, height): Area, paint: Paint) {
        let edge = |at: f64| (at * SCALE).round().max(0.0) as usize;
        let (left, top) = (edge(x), edge(y));
        let (right, bottom) = (edge(x + width).max(left + 1), edge(y + height).max(top + 1));
        for y in top..bottom.min(self.height) {
            for x in left..right.min(self.width) {
                match look(paint) {
                    Some((colour, cover)) => self.blend(x, y, colour, cover),
                    None if (x + y) % 12 < 2 => self.blend(x, y, HATCH, 255),
                    None => {}
                }
            }
        }
    }
}

/// A paint's colour, and how much of what is below it hides; none for a hatch.
fn look(paint: Paint) -> Option<(Colour, u8)> {
    Some(match paint {
        Paint::Paper => ([0xff; 3], 255),
        Paint::Nothing => return None,
        Paint::Wide => ([0; 3], 36),
        Paint::Narrow => ([0; 3], 56),
        Paint::Grid => ([0; 3], 31),
        Paint::Mark(Tone::Good) | Paint::Loss(0) => ([0x00, 0x72, 0xb2], 255),
        Paint::Loss(1) => ([0x00, 0x9e, 0x73], 255),
        Paint::Loss(2) => ([0xe6, 0x9f, 0x00], 255),
        Paint::Mark(Tone::Bad) | Paint::Loss(3) => ([0xd5, 0x5e, 0x00], 255),
        Paint::Loss(_) => ([0; 3], 255),
        Paint::Mark(Tone::Quiet) => ([0x8a, 0x8f, 0x98], 255),
    })
}

impl Canvas for Png {
    fn fill(&mut self, paint: Paint, areas: &[Area], _: Option<&str>) {
        areas.iter().for_each(|area| self.area(*area, paint));
    }

    fn lines(&mut self, paint: Paint, lines: &[(f64, f64, f64)]) {
        lines.iter().for_each(|(x, y, width)| self.area((*x, y - 1.0, *width, 2.0), paint));
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, bold: bool, text: &str) {
        let weight = if bold { FontWeight::Bold } else { FontWeight::Regular };
        let text = text.replace('→', "->");
        let wide = get_raster_width(weight, SIZE);
        let length = wide * text.chars().count();
        let left = (x * SCALE) as usize;
        let mut left = match anchor {
            Anchor::Start => left,
            Anchor::Middle => left.saturating_sub(length / 2),
            Anchor::End => left.saturating_sub(length),
        };
        let top = (y * SCALE - ASCENT).max(0.0) as usize;
        for c in text.chars() {
            let raster = get_raster(c, weight, SIZE).or_else(|| get_raster('?', weight, SIZE));
            for (down, row) in raster.iter().flat_map(|of| of.rows().enumerate()) {
                for (right, cover) in row.iter().enumerate() {
                    self.blend(left + right, top + down, INK, *cover);
                }
            }
            left += wide;
        }
    }
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut sum = crc32fast::Hasher::new();
    for part in [&kind[..], data] {
        sum.update(part);
        file.extend(part);
    }
    file.extend(sum.finalize().to_be_bytes());
}

/// A picture's width, height and pixels, as its file has them.
#[cfg(test)]
pub(super) fn decoded(file: &[u8]) -> (usize, usize, Vec<Colour>) {
    use std::io::Read as _;
    let mut rest = file.strip_prefix(SIGNATURE).unwrap();
    let (mut side, mut packed) = ((0, 0), Vec::new());
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    while !rest.is_empty() {
        let (length, kind) = (number(rest), &rest[4..8]);
        let data = &rest[8..8 + length];
        assert_eq!(number(&rest[8 + length..]) as u32, crc32fast::hash(&rest[4..8 + length]));
        match kind {
            b"IHDR" => side = (number(data), number(&data[4..])),
            b"IDAT" => packed.extend_from_slice(data),
            _ => assert_eq!((kind, length), (&b"IEND"[..], 0)),
        }
        rest = &rest[12 + length..];
    }
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(&*packed).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), side.1 * (1 + 3 * side.0));
    let rows = bytes.chunks(1 + 3 * side.0).flat_map(|row| row[1..].chunks(3));
    (side.0, side.1, rows.map(|pixel| pixel.try_into().unwrap()).collect())
}
