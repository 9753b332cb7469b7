//! LoRA files merged into weights of a few numbers: how much is added, and what is said where that is nothing.

use super::lora::{Entry, FILE, read};
use super::*;

/// What is merged of tensors into zeros of this shape, with this scale.
fn merged(tensors: &[Entry<'_>], shape: &[usize], scale: f32) -> Result<Vec<f32>> {
    let lora = read(tensors)?;
    let mut d = Declarations::new(crate::quant::Format::F32);
    let parts = weight_and_bias("a", shape.to_vec(), true, Rows::From(0), Columns::Same);
    let row_len: usize = shape[1..].iter().product();
    d.matrix(shape[0] as u32, shape[1] as u32, row_len as u32 / shape[1] as u32, parts);
    let mut merge = Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale }])?;
    whole(&mut merge, row_len, &vec![0.0; shape[0] * row_len])
}

/// What is merged into all rows of the first tensor.
fn whole(merge: &mut Merge<'_>, row_len: usize, rows: &[f32]) -> Result<Vec<f32>> {
    let mut all = vec![];
    merge.slab((0, 0), 0, row_len, rows, &mut |_, rows| {
        all.extend_from_slice(rows);
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn alpha_is_over_the_rank() {
    for alpha in ["unet.a.alpha", "lora_unet_a.alpha"] {
        for shape in [&[][..], &[1]] {
            let tensors: [Entry<'_>; 3] = [
                ("unet.a.lora_A.weight", &[4, 1], &[1.0; 4]),
                ("unet.a.lora_B.weight", &[1, 4], &[1.0; 4]),
                (alpha, shape, &[2.0]),
            ];
            assert_eq!(merged(&tensors, &[1, 1], 1.0).unwrap(), [2.0]);
        }
    }
    // Of LoKr the rank is that of the second matrix, and two whole matrices have none.
    let (one, alpha) = (("unet.a.lokr_w1", &[1, 1][..], &[1.0][..]), ("unet.a.alpha", &[][..], &[8.0][..]));
    let thin = [("unet.a.lokr_w2_a", &[1, 2][..], &[1.0; 2][..]), ("unet.a.lokr_w2_b", &[2, 1], &[1.0; 2])];
    assert_eq!(merged(&[one, thin[0], thin[1], alpha], &[1, 1], 1.0).unwrap(), [8.0]);
    assert_eq!(merged(&[one, ("unet.a.lokr_w2", &[1, 1], &[3.0]), alpha], &[1, 1], 1.0).unwrap(), [3.0]);
    assert_eq!(merged(&[("unet.a.diff", &[1, 1], &[3.0]), alpha], &[1, 1], 0.5).unwrap(), [1.5]);
}

#[test]
fn a_bias_of_a_layer_that_has_none_is_said() {
    let mut d = Declarations::new(crate::quant::Format::F32);
    d.matrix(1, 1, 1, weight_and_bias("a", vec![1, 1], false, Rows::From(0), Columns::Same));
    for (bias, wanted) in [
        (
            1.0,
            "1 of its 1 modules for the unet are used without their biases, the first is unet.a.lora_A.weight",
        ),
        (0.0, ""),
    ] {
        let tensors: [Entry<'_>; 3] = [
            ("unet.a.lora_A.weight", &[1, 1], &[1.0]),
            ("unet.a.lora_B.weight", &[1, 1], &[1.0]),
            ("unet.a.lora_B.bias", &[1], &[bias]),
        ];
        let lora = read(&tensors).unwrap();
        let told = Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale: 1.0 }]).unwrap().warnings;
        assert_eq!(told.len(), usize::from(!wanted.is_empty()));
        assert!(told.iter().all(|w| w.message.contains(wanted) && w.message.starts_with(FILE)), "{told:?}");
    }
}

/// What is not finite, or becomes so, is an error that names the file and the tensor; not where it does not count.
#[test]
fn what_is_not_finite_is_named() {
    const A: &str = "unet.a.lora_A.weight";
    const B: &str = "unet.a.lora_B.weight";
    const ALPHA: &str = "unet.a.alpha";
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let flawed: [(&str, [Entry<'_>; 3]); 3] = [
            (A, [(A, &[1, 2], &[1.0, value]), (B, &[1, 1], &[1.0]), (ALPHA, &[], &[1.0])]),
            (B, [(A, &[1, 2], &[1.0, 1.0]), (B, &[1, 1], &[value]), (ALPHA, &[], &[1.0])]),
            (ALPHA, [(A, &[1, 2], &[1.0, 1.0]), (B, &[1, 1], &[1.0]), (ALPHA, &[], &[value])]),
        ];
        for (name, tensors) in flawed {
            let e = merged(&tensors, &[1, 2], 1.0).unwrap_err();
            assert_eq!(e.code, Code::NotFinite, "{e}");
            assert!([FILE, name].iter().all(|w| e.message.contains(w)), "{e}");
            // A tensor without a finite value is damaged, whatever it counts.
            let unused = merged(&tensors, &[1, 2], 0.0);
            assert_eq!(
                unused.map_err(|e| e.code),
                if name == A { Ok(vec![0.0; 2]) } else { Err(Code::NotFinite) }
            );
        }
    }
    // Each value is finite, what comes of them is not.
    let tensors: [Entry<'_>; 3] = [(A, &[1, 2], &[1.0, 1e20]), (B, &[1, 1], &[1e10]), (ALPHA, &[], &[1e10])];
    let e = merged(&tensors, &[1, 2], 1.0).unwrap_err();
    assert_eq!(e.code, Code::NotFinite, "{e}");
    assert!([FILE, "unet.a.", "a.weight", "inf", "10000000000"].iter().all(|w| e.message.contains(w)), "{e}");
    assert!(merged(&tensors, &[1, 2], 1e-10).is_ok());
}

/// However the rows come, in however many slabs, each gets the same bits; of a DoRA that measures inputs the rows
/// are handed on when all have come.
#[test]
fn slabs_do_not_show() {
    const ROWS: usize = 37;
    const WIDTH: usize = 1200;
    let number = |i: usize| (i * 29 % 101) as f32 / 100.0 - 0.5;
    let numbers = |salt: usize, count: usize| (0..count).map(|i| number(i + salt)).collect::<Vec<f32>>();
    let (down, up) = (numbers(0, 3 * WIDTH), numbers(7, ROWS * 3));
    let pair =
        [("unet.a.lora_A.weight", &[3, WIDTH][..], &down[..]), ("unet.a.lora_B.weight", &[ROWS, 3], &up)];
    let (outputs, inputs) = (numbers(11, ROWS), numbers(13, WIDTH));
    let mut d = Declarations::new(crate::quant::Format::F32);
    let parts = weight_and_bias("a", vec![ROWS, WIDTH], false, Rows::From(0), Columns::Same);
    d.matrix(ROWS as u32, WIDTH as u32, 1, parts);
    let weights = numbers(3, ROWS * WIDTH);
    for magnitude in [
        None,
        Some(("unet.a.dora_scale", &[ROWS, 1][..], &outputs[..])),
        Some(("unet.a.dora_scale", &[1, WIDTH], &inputs)),
        Some(("unet.a.lora_magnitude_vector.weight", &[ROWS], &outputs)),
    ] {
        let lora = read(&pair.iter().copied().chain(magnitude).collect::<Vec<_>>()).unwrap();
        let adapters = [Adapter { lora: &lora, scale: 0.9 }];
        let mut merge = Merge::new(&d, 0, "unet", &adapters).unwrap();
        let wanted = whole(&mut merge, WIDTH, &weights).unwrap();
        if magnitude.is_none() {
            let mut by_hand = weights.clone();
            for (i, value) in by_hand.iter_mut().enumerate() {
                let sum =
                    (0..3).fold(0.0, |sum, r| sum + up[i / WIDTH * 3 + r] * down[r * WIDTH + i % WIDTH]);
                *value += 0.9 * sum;
            }
            assert!(wanted == by_hand);
        }
        for step in [1, 5, 8, ROWS] {
            let mut merge = Merge::new(&d, 0, "unet", &adapters).unwrap();
            let mut got = vec![];
            for (i, rows) in weights.chunks(step * WIDTH).enumerate() {
                let mut next = |first_row: usize, rows: &[f32]| {
                    assert_eq!(first_row * WIDTH, got.len());
                    got.extend_from_slice(rows);
                    Ok(())
                };
                merge.slab((0, 0), i * step, WIDTH, rows, &mut next).unwrap();
            }
            assert!(got == wanted, "slabs of {step} with {magnitude:?}");
        }
    }
}

/// A weight as long as a vector says, in numbers that can be seen through.
#[test]
fn lengths_by_hand() {
    let pair = [
        ("unet.a.lora_A.weight", &[1, 2][..], &[1.0, 0.0][..]),
        ("unet.a.lora_B.weight", &[2, 1], &[3.0, 0.0]),
    ];
    let merged = |name: &str, shape: &[usize], lengths: &[f32], scale: f32| {
        let lora = read(&[pair[0], pair[1], (name, shape, lengths)])?;
        let mut d = Declarations::new(crate::quant::Format::F32);
        let parts = weight_and_bias("a", vec![2, 2], false, Rows::From(0), Columns::Same);
        d.matrix(2, 2, 1, parts);
        let mut merge = Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale }])?;
        whole(&mut merge, 2, &[0.0, 4.0, 0.0, 3.0])
    };
    // W + d is [3, 4] and [0, 3]: rows of length 5 and 3, columns of 3 and 5.
    assert_eq!(merged("unet.a.dora_scale", &[2, 1], &[10.0, 3.0], 1.0).unwrap(), [6.0, 8.0, 0.0, 3.0]);
    assert_eq!(merged("unet.a.dora_scale", &[2], &[10.0, 3.0], 1.0).unwrap(), [6.0, 8.0, 0.0, 3.0]);
    assert_eq!(merged("unet.a.dora_scale", &[1, 2], &[6.0, 5.0], 1.0).unwrap(), [6.0, 4.0, 0.0, 3.0]);
    // Half of the way, as ComfyUI goes it.
    assert_eq!(merged("unet.a.dora_scale", &[2, 1], &[10.0, 3.0], 0.5).unwrap(), [3.0, 6.0, 0.0, 3.0]);
    // peft's scale is one of d.
    assert_eq!(
        merged("unet.a.lora_magnitude_vector", &[2], &[10.0, 3.0], 1.0).unwrap(),
        [6.0, 8.0, 0.0, 3.0]
    );
    let half = merged("unet.a.lora_magnitude_vector", &[2], &[4.272002, 3.0], 0.5).unwrap();
    assert!(half.iter().zip([1.5, 4.0, 0.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{half:?}");
    for shape in [&[3][..], &[1, 3], &[2, 2]] {
        let e = merged("unet.a.dora_scale", shape, &vec![1.0; shape.iter().product()], 1.0).unwrap_err();
        assert!(e.code == InvalidModel && e.message.contains("[2, 1] or [1, 2] for a.weight"), "{e}");
    }
}

/// A header may say that every module has a length, which the file then must have.
#[test]
fn lengths_that_a_header_promises() {
    let header = |dora: bool| {
        let entries = r#""unet.a.lora_A.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
            "unet.a.lora_B.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]}"#;
        let settings = format!(r#"{{\"unet.lora_alpha\": 3, \"unet.r\": 1, \"unet.use_dora\": {dora}}}"#);
        format!(r#"{{"__metadata__": {{"lora_adapter_metadata": "{settings}"}}, {entries}}}"#)
    };
    let data = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
    let mut d = Declarations::new(crate::quant::Format::F32);
    d.matrix(1, 1, 1, weight_and_bias("a", vec![1, 1], false, Rows::From(0), Columns::Same));
    let merged = |dora: bool| {
        let lora = block_on(Lora::read(&folder(&[(FILE, raw(&header(dora), &data))]), FILE, Hooks::NONE))?;
        whole(&mut Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale: 1.0 }])?, 1, &[0.5])
    };
    assert_eq!(merged(false).unwrap(), [6.5]);
    let e = merged(true).unwrap_err();
    let words = [FILE, "unet.a.lora_A.weight", "use_dora", "lora_magnitude_vector"];
    assert!(e.code == InvalidModel && words.iter().all(|w| e.message.contains(w)), "{e}");
}

/// Files name a text encoder's modules with the model inside the model or without.
#[test]
fn text_models_under_two_names() {
    let mut d = Declarations::new(crate::quant::Format::F32);
    d.matrix(1, 1, 1, weight_and_bias("text_model.a", vec![1, 1], false, Rows::From(0), Columns::Same));
    let tensors = ["lora_te_text_model_a.diff", "text_encoder.a.diff", "lora_te1_a.diff"];
    for name in tensors {
        let lora = read(&[(name, &[1, 1], &[2.0])]).unwrap();
        let adapters = [Adapter { lora: &lora, scale: 1.0 }];
        let mut merge = Merge::new(&d, 0, "text_encoder", &adapters).unwrap();
        assert_eq!(whole(&mut merge, 1, &[0.5]).unwrap(), [2.5], "{name}");
    }
    let lora = read(&[(tensors[0], &[1, 1], &[2.0]), (tensors[1], &[1, 1], &[2.0])]).unwrap();
    let e = Merge::new(&d, 0, "text_encoder", &[Adapter { lora: &lora, scale: 1.0 }]).err().unwrap();
    let words = [FILE, tensors[0], tensors[1], "one module"];
    assert!(e.code == InvalidModel && words.iter().all(|w| e.message.contains(w)), "{e}");
}
