//! SentencePiece's own file of a T5 (`spiece.model`) to the tokenizer that transformers' `T5Converter` makes of it: the
//! pieces with their scores as a Unigram model, `<extra_id_n>` behind them, the map of normal forms, white space at the end
//! left out, runs of spaces as one, words that begin with `▁`.

use tintype_base::error::{self, Error};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::precompiled::Precompiled;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, Tokenizer};

use crate::charsmap;
use crate::protobuf::{Value, fields};

/// What a model holds of which a tokenizer is made.
struct Model<'a> {
    pieces: Vec<Piece<'a>>,
    /// 1: Unigram, 2: BPE, 3: words, 4: letters.
    kind: u64,
    unknown: u64,
    byte_fallback: bool,
    charsmap: &'a [u8],
    /// Flags of the normal form, all true unless the file says otherwise, by their names there.
    flags: [(&'static str, bool); 3],
}

struct Piece<'a> {
    text: &'a str,
    score: f32,
    /// 1: of words, 2: unknown, 3: control, 4: the user's, 5: unused, 6: a byte.
    kind: u64,
}

impl Piece<'_> {
    /// Whether it is cut out of a text before words are looked for.
    fn is_special(&self) -> bool {
        matches!(self.kind, 2..=4)
    }
}

pub fn read(bytes: &[u8], file: &str, extra_ids: usize) -> error::Result<Tokenizer> {
    let wrong = |what: String| Error::model(format!("{file} is not a SentencePiece model: {what}"));
    let model = Model::parse(bytes).map_err(wrong)?;
    model.check(file)?;
    let Model { pieces, unknown, charsmap, .. } = model;
    let extra = (0..extra_ids).rev().map(|i| format!("<extra_id_{i}>"));
    let extra: Vec<String> = extra.filter(|token| pieces.iter().all(|piece| piece.text != token)).collect();
    let vocabulary = pieces.iter().map(|piece| (piece.text.to_owned(), f64::from(piece.score)));
    let vocabulary = vocabulary.chain(extra.iter().map(|token| (token.clone(), 0.0))).collect();
    let all = |e: tokenizers::Error| wrong(e.to_string());
    let unigram = Unigram::from(vocabulary, Some(unknown as usize), false).map_err(all)?;

    let mut normalizers: Vec<NormalizerWrapper> = vec![];
    if !charsmap.is_empty() {
        charsmap::check(charsmap).map_err(|e| wrong(format!("its precompiled_charsmap {e}")))?;
        normalizers.push(Precompiled::from(charsmap).map_err(|e| wrong(e.to_string()))?.into());
    }
    normalizers.push(Strip::new(false, true).into());
    let spaces = ReplacePattern::Regex(" {2,}".to_owned());
    normalizers.push(Replace::new(spaces, "\u{2581}").map_err(all)?.into());
    let words = || Metaspace::new('\u{2581}', PrependScheme::Always, true);
    let mut tokenizer = Tokenizer::new(unigram);
    tokenizer.with_normalizer(Some(Sequence::new(normalizers)));
    tokenizer.with_pre_tokenizer(Some(words())).with_decoder(Some(words()));
    let special = pieces.iter().filter(|piece| piece.is_special()).map(|piece| piece.text.to_owned());
    let special: Vec<AddedToken> = special.chain(extra).map(|token| AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(&special);
    Ok(tokenizer)
}

impl<'a> Model<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Model<'a>, String> {
        let mut model = Model {
            pieces: vec![],
            kind: 1,
            unknown: 0,
            byte_fallback: false,
            charsmap: &[],
            flags: [
                ("add_dummy_prefix", true),
                ("remove_extra_whitespaces", true),
                ("escape_whitespaces", true),
            ],
        };
        for field in fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Value::Bytes(trainer)) => model.trainer(trainer)?,
                (3, Value::Bytes(normalizer)) => model.normalizer(normalizer)?,
                _ => {}
            }
        }
        Ok(model)
    }

    /// How it was trained, which says of what kind it is.
    fn trainer(&mut self, message: &[u8]) -> Result<(), String> {
        for field in fields(message) {
            match field? {
                (3, Value::Number(kind)) => self.kind = kind,
                (35, Value::Number(flag)) => self.byte_fallback = flag != 0,
                (40, Value::Number(id)) => self.unknown = id,
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, message: &'a [u8]) -> Result<(), String> {
        for field in fields(message) {
            match field? {
                (2, Value::Bytes(map)) => self.charsmap = map,
                (number @ 3..=5, Value::Number(flag)) => self.flags[number as usize - 3].1 = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// That T5's rules make a tokenizer of it.
    fn check(&self, file: &str) -> error::Result<()> {
        let kinds = ["", "Unigram", "BPE", "words", "letters"];
        if self.kind != 1 {
            let found = kinds.get(self.kind as usize).copied().unwrap_or("an unknown kind");
            return Err(Error::unsupported(format!(
                "{file}: model_type: of SentencePiece's own files those of Unigram (T5) are read, found {found}; \
                 a tokenizer.json beside it would do"
            )));
        }
        let fallback = [("byte_fallback", !self.byte_fallback)];
        if let Some((flag, _)) = self.flags.iter().chain(&fallback).find(|(_, as_in_t5)| !as_in_t5) {
            let found = *flag == "byte_fallback";
            return Err(Error::unsupported(format!(
                "{file}: {flag}: wanted {}, as T5 has it, found {found}",
                !found
            )));
        }
        let wrong = |what: String| Error::model(format!("{file}: {what}"));
        if self.unknown >= self.pieces.len() as u64 {
            return Err(wrong(format!("unk_id is {}, of {} pieces", self.unknown, self.pieces.len())));
        }
        match self.pieces.iter().position(|piece| piece.text.is_empty() || !piece.score.is_finite()) {
            Some(at) => Err(wrong(format!(
                "piece {at}: wanted a text and its score, found {:?} and {}",
                self.pieces[at].text, self.pieces[at].score
            ))),
            None => Ok(()),
        }
    }
}

impl<'a> Piece<'a> {
    fn parse(message: &'a [u8]) -> Result<Piece<'a>, String> {
        let mut piece = Piece { text: "", score: 0.0, kind: 1 };
        for field in fields(message) {
            match field? {
                (1, Value::Bytes(text)) => {
                    piece.text = std::str::from_utf8(text).map_err(|e| format!("a piece is no text: {e}"))?;
                }
                (2, Value::Float(score)) => piece.score = score,
                (3, Value::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        Ok(piece)
    }
}
