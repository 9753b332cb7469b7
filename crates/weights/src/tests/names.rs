//! Original names and learned tokens.

use super::*;
use crate::quant::Format;

const PLACE: Place =
    Place { component: "text_encoder", prefix: "te.", names: Names::OpenClip, flat: false, stride: None };

/// What the sink gets from a file whose tensor comes in slabs of so many rows.
fn renamed(d: &Declarations, name: &str, shape: &[usize], step: usize) -> BTreeMap<String, Vec<f32>> {
    let mut sink = Keep::default();
    let mut renamed = Renamed::new(&mut sink, PLACE, d, 0);
    let info =
        TensorInfo { name: name.to_owned(), dtype: Dtype::F32, shape: shape.to_vec(), begin: 0, end: 0 };
    assert!(renamed.wants(&info).unwrap());
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
    let row_len = info.row_len();
    for (i, rows) in values.chunks(step * row_len).enumerate() {
        renamed.slab(&info, i * step, rows.len() / row_len, rows).unwrap();
    }
    sink.tensors
}

#[test]
fn thirds_and_turned_matrices_in_any_slabs() {
    let mut d = Declarations::new(Format::F32);
    let attention = "text_model.encoder.layers.11.self_attn";
    for (path, shape) in [
        (&format!("{attention}.q_proj"), [4, 4]),
        (&format!("{attention}.k_proj"), [4, 4]),
        (&format!("{attention}.v_proj"), [4, 4]),
        (&"text_projection".to_owned(), [2, 4]),
    ] {
        let parts = weight_and_bias(path, shape.to_vec(), shape[0] == 4, Rows::From(0), Columns::Same);
        d.matrix(shape[0] as u32, 4, 1, parts);
    }
    for step in [1, 3, 5, 8, 12] {
        let got = renamed(&d, "te.transformer.resblocks.11.attn.in_proj_weight", &[12, 4], step);
        for (third, q) in ["q", "k", "v"].iter().enumerate() {
            let wanted: Vec<f32> = (third * 16..(third + 1) * 16).map(|i| i as f32).collect();
            assert_eq!(got[&format!("{attention}.{q}_proj.weight")], wanted, "slabs of {step}");
        }
        let got = renamed(&d, "te.transformer.resblocks.11.attn.in_proj_bias", &[12], step);
        assert_eq!(got[&format!("{attention}.v_proj.bias")], [8.0, 9.0, 10.0, 11.0], "slabs of {step}");
        let got = renamed(&d, "te.text_projection", &[4, 2], step);
        assert_eq!(
            got["text_projection.weight"],
            [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0],
            "slabs of {step}"
        );
    }
    let mut sink = Keep::default();
    let mut renamed = Renamed::new(&mut sink, PLACE, &d, 0);
    let info = |name: &str, shape: &[usize]| TensorInfo {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        begin: 0,
        end: 0,
    };
    for other in ["te.logit_scale", "transformer.resblocks.11.attn.in_proj_bias", "te.ln_final.weight"] {
        assert!(!renamed.wants(&info(other, &[12])).unwrap(), "{other}");
    }
    let e = renamed.wants(&info("te.transformer.resblocks.11.attn.in_proj_bias", &[13])).unwrap_err();
    assert!(
        e.code == InvalidModel && e.message.contains("in_proj_bias") && e.message.contains("[13]"),
        "{e}"
    );
}

/// Names that published files have, of SD 1.x and of SDXL.
#[test]
fn published_names() {
    let declared = |names: &[&str], levels: usize| {
        let mut d = Declarations::new(Format::F32);
        for b in 0..levels {
            for i in 0..2 {
                d.norm(&format!("down_blocks.{b}.resnets.{i}.norm1"), 4);
            }
        }
        for name in names {
            d.norm(name, 4);
        }
        d
    };
    let sd1 = [
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"),
        ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
        ("up_blocks.2.upsamplers.0.conv", "output_blocks.8.2.conv"),
        ("up_blocks.3.attentions.2.proj_out", "output_blocks.11.1.proj_out"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("down_blocks.2.downsamplers.0.conv", "input_blocks.9.0.op"),
        ("down_blocks.3.resnets.1.conv2", "input_blocks.11.0.out_layers.3"),
        ("down_blocks.1.resnets.0.conv_shortcut", "input_blocks.4.0.skip_connection"),
        ("mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1"),
    ];
    let sdxl = [
        (
            "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k",
            "input_blocks.4.1.transformer_blocks.1.attn2.to_k",
        ),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
        ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_norm_out", "out.0"),
    ];
    for (cases, levels) in [(&sd1[..], 4), (&sdxl[..], 3)] {
        let ours: Vec<&str> = cases.iter().map(|(ours, _)| *ours).collect();
        let d = declared(&ours, levels);
        let mut sink = Keep::default();
        let place =
            Place { component: "unet", prefix: "model.diffusion_model.", names: Names::Unet, ..PLACE };
        let mut renamed = Renamed::new(&mut sink, place, &d, 0);
        for (_, theirs) in cases {
            let name = format!("model.diffusion_model.{theirs}.weight");
            let info = TensorInfo { name, dtype: Dtype::F32, shape: vec![1], begin: 0, end: 0 };
            assert!(renamed.wants(&info).unwrap(), "{theirs}");
            renamed.slab(&info, 0, 1, &[1.0]).unwrap();
        }
        let wanted: BTreeMap<String, Vec<f32>> =
            ours.iter().map(|name| (format!("{name}.weight"), vec![1.0])).collect();
        assert_eq!(sink.tensors, wanted);
    }
}

fn embedding(path: &str, tensors: &[(&str, &[usize], &[f32])], widths: &[usize]) -> Result<Embedding> {
    let all = block_on(Embedding::read(&folder(&[(path, floats(tensors))]), path, widths, Hooks::NONE));
    all.map(|mut all| all.remove(0))
}

#[test]
fn learned_tokens() {
    let two: (&[usize], &[f32]) = (&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let wanted = |token: &str, stem: Option<&str>| Embedding {
        token: token.to_owned(),
        stem: stem.map(str::to_owned),
        count: 2,
        vectors: vec![two.1.to_vec()],
    };
    let named = embedding("a/learned_embeds.safetensors", &[("<cat>", two.0, two.1)], &[3]);
    assert_eq!(named.unwrap(), wanted("<cat>", Some("learned_embeds")));
    for name in ["emb_params", "emp_params", "string_to_param.*", "clip_l"] {
        let unnamed = embedding("a/easy.safetensors", &[(name, two.0, two.1)], &[3]);
        assert_eq!(unnamed.unwrap(), wanted("easy", Some("easy")));
    }
    // A bundle, as it stands beside a LoRA.
    let file =
        [("bundle_emb.red fox.string_to_param.*", two.0, two.1), ("bundle_emb.b.emb_params", two.0, two.1)];
    let bundle = folder(&[("a.safetensors", floats(&file))]);
    let bundle = block_on(Embedding::read(&bundle, "a.safetensors", &[3], Hooks::NONE)).unwrap();
    assert_eq!(bundle, [wanted("b", None), wanted("red fox", None)]);
    // Of one alone the file's name is its name too, and of no other.
    let one = embedding("a/fox.safetensors", &[file[0]], &[3]);
    assert_eq!(one.unwrap(), wanted("red fox", Some("fox")));
    let beside = folder(&[("a.safetensors", floats(&[("<cat>", two.0, two.1), file[0]]))]);
    let beside = block_on(Embedding::read(&beside, "a.safetensors", &[3], Hooks::NONE)).unwrap();
    assert_eq!(beside, [wanted("<cat>", None), wanted("red fox", None)]);
    let behind = [("emp_params", two.0, two.1), ("emp_params_out", two.0, two.1)];
    let e = embedding("a.safetensors", &behind, &[3]).unwrap_err();
    assert!(
        e.code == Unsupported && e.message.starts_with("a.safetensors: emp_params_out: vectors behind"),
        "{e}"
    );
    let flat = embedding("a.safetensors", &[("<cat>", &[3], &two.1[..3])], &[3]).unwrap();
    assert_eq!((flat.count, &flat.vectors[0][..]), (1, &two.1[..3]));
    let both = [("clip_g", &[2, 2][..], &[7.0; 4][..]), ("clip_l", two.0, two.1)];
    let sdxl = embedding("xl.safetensors", &both, &[3, 2]).unwrap();
    let vectors = vec![two.1.to_vec(), vec![7.0; 4]];
    assert_eq!(sdxl, Embedding { token: "xl".to_owned(), stem: Some("xl".to_owned()), count: 2, vectors });
}

#[test]
fn learned_tokens_that_are_not_finite_are_said() {
    for (value, count) in [(f32::NAN, 1), (f32::NEG_INFINITY, 1), (1.0, 0)] {
        let file = floats(&[("clip_g", &[1, 2], &[1.0, value]), ("clip_l", &[1, 1], &[1.0])]);
        let told = std::cell::RefCell::new(vec![]);
        let hooks = Hooks { warn: &|warning| told.borrow_mut().push(warning), ..Hooks::NONE };
        block_on(Embedding::read(&folder(&[("xl.safetensors", file)]), "xl.safetensors", &[1, 2], hooks))
            .unwrap();
        let told: Vec<crate::warning::Warning> = told.take();
        assert_eq!(told.len(), count);
        for warning in told {
            assert_eq!(warning.code, crate::warning::Topic::NotFinite);
            assert!(["xl.safetensors", "clip_g"].iter().all(|w| warning.message.contains(w)), "{warning}");
        }
    }
}

#[test]
fn wrong_tokens_are_refused() {
    let values = [0.0f32; 12];
    let of = |name, shape: &'static [usize]| (name, shape, &values[..shape.iter().product()]);
    type Tensors<'a> = Vec<(&'a str, &'a [usize], &'a [f32])>;
    let cases: [(Tensors<'_>, &[usize], &[&str]); 7] = [
        (vec![of("<a>", &[2, 3])], &[4], &["<a>", "[n, 4]", "[2, 3]"]),
        (vec![of("<a>", &[1, 2, 3])], &[3], &["<a>", "[n, 3]", "[1, 2, 3]"]),
        (vec![of("<a>", &[0, 3])], &[3], &["<a>", "[n, 3]", "[0, 3]"]),
        (vec![of("<a>", &[2, 3]), of("<b>", &[2, 3])], &[3], &["one tensor", "<a>, <b>"]),
        (vec![], &[3], &["one tensor", "nothing"]),
        (vec![of("emb_params", &[2, 3])], &[3, 2], &["clip_l and clip_g", "emb_params"]),
        (vec![of("clip_l", &[2, 3]), of("clip_g", &[1, 2])], &[3, 2], &["clip_l and clip_g", "different"]),
    ];
    for (tensors, widths, words) in cases {
        let e = embedding("a.safetensors", &tensors, widths).unwrap_err();
        assert_eq!(e.code, InvalidModel);
        assert!(words.iter().chain(&["a.safetensors"]).all(|w| e.message.contains(w)), "{words:?}: {e}");
    }
}
