//! Reader of a sentencepiece model file (`spm.model`): the fields of its protocol buffer that a unigram model needs.
//! Every length is checked, so that a truncated or damaged file is an error and nothing else.

/// A unigram model of sentencepiece.
#[derive(Debug, Clone, PartialEq)]
pub struct SpmModel {
    /// The pieces; a piece's id is its place.
    pub pieces: Vec<Piece>,
    /// Id of the unknown piece.
    pub unk_id: u32,
    /// Whether an unknown character becomes its bytes.
    pub byte_fallback: bool,
    /// The normaliser's table, as [`crate::tokenizer::charsmap::Charsmap`] reads it; empty where there is none.
    pub charsmap: Vec<u8>,
    /// Whether a space is put before the text.
    pub add_dummy_prefix: bool,
    /// Whether leading, trailing and doubled spaces are removed.
    pub remove_extra_whitespaces: bool,
    /// Whether a space becomes `▁`.
    pub escape_whitespaces: bool,
}

/// One piece of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its text.
    pub text: String,
    /// Its log probability.
    pub score: f32,
    /// Its use.
    pub kind: PieceKind,
}

/// Use of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// A part of a text.
    Normal,
    /// Text that nothing else covers.
    Unknown,
    /// A mark of the model, never part of a text.
    Control,
    /// Never used.
    Unused,
    /// One byte of an unknown character.
    Byte,
}

/// Fault of a file.
type Result<T> = std::result::Result<T, String>;

/// The longest piece in bytes: sentencepiece itself keeps to 64 characters.
const LONGEST: usize = 1024;

impl SpmModel {
    /// Reads the file's bytes.
    ///
    /// # Errors
    /// A truncated or damaged file; a model that is not unigram, or has pieces of the user's own.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut model = SpmModel {
            pieces: Vec::new(),
            unk_id: 0,
            byte_fallback: false,
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        let (mut has_trainer, mut has_normalizer) = (false, false);
        for field in Fields(data) {
            match field? {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Value::Bytes(trainer)) => {
                    model.read_trainer(trainer)?;
                    has_trainer = true;
                }
                (3, Value::Bytes(normalizer)) => {
                    model.read_normalizer(normalizer)?;
                    has_normalizer = true;
                }
                _ => {}
            }
        }
        // They come after the pieces, and a file cut between two pieces is still well-formed.
        if !(has_trainer && has_normalizer) {
            return Err("it ends before its normaliser: truncated".into());
        }
        let unknown = model.pieces.iter().position(|piece| piece.kind == PieceKind::Unknown);
        model.unk_id = unknown.ok_or("it has no unknown piece")? as u32;
        let bytes = model.pieces.iter().filter(|piece| piece.kind == PieceKind::Byte).count();
        if model.byte_fallback && bytes != 256 {
            return Err(format!("byte fallback needs 256 byte pieces, it has {bytes}"));
        }
        Ok(model)
    }

    fn read_trainer(&mut self, data: &[u8]) -> Result<()> {
        for field in Fields(data) {
            match field? {
                (3, Value::Number(kind)) if kind != 1 => {
                    return Err(format!("model type {kind}, expected 1 (unigram)"));
                }
                (24, Value::Number(1)) => return Err("white space as a suffix is not supported".into()),
                (35, Value::Number(on)) => self.byte_fallback = on == 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, data: &[u8]) -> Result<()> {
        for field in Fields(data) {
            match field? {
                (2, Value::Bytes(table)) => self.charsmap = table.to_vec(),
                (3, Value::Number(on)) => self.add_dummy_prefix = on == 1,
                (4, Value::Number(on)) => self.remove_extra_whitespaces = on == 1,
                (5, Value::Number(on)) => self.escape_whitespaces = on == 1,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Piece {
    fn parse(data: &[u8]) -> Result<Self> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
        for field in Fields(data) {
            match field? {
                (1, Value::Bytes(text)) => {
                    let text = std::str::from_utf8(text).map_err(|e| format!("a piece is not UTF-8: {e}"))?;
                    piece.text = text.to_string();
                }
                (2, Value::Word(bits)) => piece.score = f32::from_bits(bits),
                (3, Value::Number(kind)) => piece.kind = PieceKind::of(kind)?,
                _ => {}
            }
        }
        match piece {
            Piece { ref text, .. } if text.is_empty() || text.len() > LONGEST || text.contains('\0') => {
                Err(format!("a piece has {} bytes or holds a zero", text.len()))
            }
            Piece { ref text, score, .. } if !score.is_finite() => Err(format!("the score of {text:?} is {score}")),
            piece => Ok(piece),
        }
    }
}

impl PieceKind {
    fn of(number: u64) -> Result<Self> {
        Ok(match number {
            1 => PieceKind::Normal,
            2 => PieceKind::Unknown,
            3 => PieceKind::Control,
            5 => PieceKind::Unused,
            6 => PieceKind::Byte,
            4 => return Err("pieces of the user's own are not supported".into()),
            other => return Err(format!("a piece of the unknown type {other}")),
        })
    }
}

/// A value of a protocol buffer.
enum Value<'a> {
    Number(u64),
    Word(u32),
    Bytes(&'a [u8]),
    Long,
}

/// The fields of a message, in order; ends after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Long)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|e| e.to_string())?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                let word = self.take(4)?;
                Value::Word(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            }
            other => return Err(format!("a field of the unknown wire type {other}")),
        };
        Ok((key >> 3, value))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits".into())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| format!("it ends where {length} more bytes are expected: truncated"))?;
        self.0 = rest;
        Ok(head)
    }
}
