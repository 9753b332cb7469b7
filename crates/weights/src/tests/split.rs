//! Tensors whose rows go to several matrices.

use std::collections::HashMap;

use super::*;
use crate::quant::{Format, Matrix};

/// Six rows of four: queries, keys, and two fours of gates and values.
fn declared() -> Declarations {
    let mut d = Declarations::new(Format::F32);
    for (outputs, rows) in [(4, Rows::First(4)), (16, Rows::Gated { skip: 4, outputs: 8 })] {
        let parts = weight_and_bias("fused", vec![20, 4], false, rows, Columns::Same);
        d.matrix(outputs, 4, 1, parts);
    }
    d
}

#[test]
fn rows_of_one_tensor_go_to_two_matrices() {
    let d = declared();
    // As many as the checkpoint has, each once.
    assert_eq!(d.parameters(), 80);
    let values: Vec<f32> = (0..80).map(|v| v as f32).collect();
    let files = folder(&[("x.safetensors", floats(&[("fused.weight", &[20, 4], &values)]))]);
    let mut blobs: HashMap<Handle, Vec<u8>> = HashMap::new();
    let mut sink = Filler::new(&d, 0, |piece| {
        let blob = blobs.entry(piece.handle).or_default();
        blob.resize(blob.len().max(piece.at + piece.bytes.len()), 0);
        blob[piece.at..][..piece.bytes.len()].copy_from_slice(piece.bytes);
        Ok(())
    });
    block_on(stream_file(&files, "x.safetensors", &mut sink, Hooks::NONE)).unwrap();
    sink.finish("x").unwrap();
    // Values and gates alternate by four; in the file the gates come first.
    let order: [&[usize]; 2] = [&[0, 1, 2, 3], &[12, 13, 14, 15, 4, 5, 6, 7, 16, 17, 18, 19, 8, 9, 10, 11]];
    for ((handle, spec), rows) in d.handles().zip(order) {
        let Layout::Matrix(matrix) = spec.layout else { panic!("{:?}", spec.layout) };
        let wanted = stored(matrix, rows.iter().map(|row| &values[row * 4..][..4]));
        assert_eq!(blobs[&handle], wanted, "{handle:?}");
    }
}

fn stored<'a>(matrix: Matrix, rows: impl Iterator<Item = &'a [f32]>) -> Vec<u8> {
    let mut blob = vec![0; matrix.bytes()];
    for (row, values) in (0..).zip(rows) {
        matrix.store_row(&mut blob, row, values, |c| c, crate::quant::Scales::Chosen);
    }
    blob
}

#[test]
fn a_tensor_that_is_taken_whole_is_declared_once() {
    let twice = std::panic::catch_unwind(|| {
        let mut d = declared();
        let parts = weight_and_bias("fused", vec![20, 4], false, Rows::From(0), Columns::Same);
        d.matrix(20, 4, 1, parts);
        drop(Filler::new(&d, 0, |_| Ok(())));
    });
    assert!(twice.is_err());
}

/// Both have a name of their own in a pack.
#[test]
fn a_pack_tells_them_apart() {
    let d = declared();
    let names: Vec<String> = d.handles().map(|(handle, _)| crate::pack::name(&d, handle)).collect();
    assert_eq!(names, ["fused.weight", "fused.weight.4"]);
}
