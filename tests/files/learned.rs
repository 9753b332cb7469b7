//! Learned tokens: how prompts may write them, and those that no prompt has.

use tintype::pipeline::{Additions, FileIn, Request};
use tintype::weights::DiskFolder;

use super::{draw_with, load, request};
use crate::models::folder::Temp;
use crate::models::tensors::{Tensor, Tensors};

const VALUES: [f32; 28] = [0.5; 28];

/// A folder of embeddings for a text encoder that is 28 wide.
fn learned(files: &[(&str, &str)]) -> Temp {
    let temp = Temp::new();
    for (i, (file, tensor)) in files.iter().enumerate() {
        let values = VALUES.map(|v| v * (1.0 + i as f32));
        temp.write(file, Tensors(vec![Tensor::f32(tensor, &[1, 28], &values)]).bytes());
    }
    temp
}

#[test]
fn tokens_answer_to_their_own_name_and_to_their_files() {
    let files = [("one/sculpture.safetensors", "<cat-toy>")];
    let temp = learned(&files);
    let folder = DiskFolder::new(&temp.0);
    let embeddings = vec![FileIn { folder: &folder, path: files[0].0 }];
    let additions = Additions { embeddings, ..Additions::default() };
    let model = Temp::model("sd15-like");
    let pipeline = load(&model, &additions).unwrap();
    let of = |prompt: &str| draw_with(&pipeline, &request(prompt)).unwrap();
    let wanted = of("a <cat-toy>");
    assert_eq!(wanted.warnings, []);
    assert_eq!(of("a Sculpture").latents, wanted.latents);
    let without = of("a sculptured toy");
    assert_ne!(without.latents, wanted.latents);
    let told = r#"an embedding is not used: wanted "<cat-toy>" or "sculpture" in a prompt"#;
    assert_eq!(without.told("unused"), [told]);
    // A negative prompt counts where there is guidance.
    let negative = Request { negative_prompt: "sculpture".to_owned(), ..request("a fox") };
    assert_eq!(draw_with(&pipeline, &negative).unwrap().told("unused"), [told]);
    let guided = Request { guidance: Some(3.0), ..negative };
    assert_eq!(draw_with(&pipeline, &guided).unwrap().warnings, []);
}

/// A file's name is another's token: the token counts.
#[test]
fn a_token_is_never_taken_by_a_file() {
    let files = [("a/<two>.safetensors", "<one>"), ("b/x.safetensors", "<two>")];
    let temp = learned(&files);
    let folder = DiskFolder::new(&temp.0);
    let embeddings = files.iter().map(|(path, _)| FileIn { folder: &folder, path }).collect();
    let additions = Additions { embeddings, ..Additions::default() };
    let pipeline = load(&Temp::model("sd15-like"), &additions).unwrap();
    let of = |prompt: &str| draw_with(&pipeline, &request(prompt)).unwrap();
    let (one, two) = (of("<one>"), of("<two>"));
    assert_ne!(one.latents, two.latents);
    assert_eq!(of("x").latents, two.latents);
    assert_eq!(one.told("unused"), [r#"an embedding is not used: wanted "<two>" or "x" in a prompt"#]);
}

/// Two encoders, of which one reads another prompt.
#[test]
fn a_token_is_used_where_one_of_two_encoders_has_it() {
    let temp = Temp::new();
    let model = Temp::model("sdxl-like");
    let width = |encoder: &str| {
        let file = std::fs::read(model.path(&format!("{encoder}/config.json"))).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&file).unwrap();
        config["hidden_size"].as_u64().unwrap() as usize
    };
    let tensor = |name: &str, width: usize| Tensor::f32(name, &[1, width], &vec![0.5; width]);
    let tensors = vec![tensor("clip_l", width("text_encoder")), tensor("clip_g", width("text_encoder_2"))];
    temp.write("toy.safetensors", Tensors(tensors).bytes());
    let folder = DiskFolder::new(&temp.0);
    let embeddings = vec![FileIn { folder: &folder, path: "toy.safetensors" }];
    let pipeline = load(&model, &Additions { embeddings, ..Additions::default() }).unwrap();
    let second = Request { prompt_2: Some("a toy".to_owned()), ..request("a fox") };
    assert_eq!(draw_with(&pipeline, &second).unwrap().warnings, []);
    let none = Request { prompt_2: Some("a bird".to_owned()), ..request("a fox") };
    assert_eq!(draw_with(&pipeline, &none).unwrap().told("unused").len(), 1);
}
