//! Single files under the names of the original code (CompVis' and Stability's latent diffusion, OpenCLIP).
//!
//! The table goes from our names to theirs, for the tensors that a network declares; how deep the network is
//! shows in those names. [`Renamed`] goes the other way while a file streams: it renames, takes q, k and v out of
//! the matrix that OpenCLIP keeps them in, and turns a matrix that was stored the other way round.

mod controlnet;
mod t2i_adapter;
mod whole;

use std::collections::HashMap;

pub use controlnet::control_place;
pub use t2i_adapter::t2i_place;

use super::declare::Declarations;
use super::place::Place;
use super::safetensors::TensorInfo;
use super::stream::Sink;
use crate::error::{Error, Result};
use crate::quant::Format;

/// Whose names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// The original U-Net.
    Unet,
    /// The original autoencoder.
    Vae,
    /// transformers' CLIP, as SD 1.x and SDXL's first encoder have it.
    Clip,
    /// OpenCLIP, as SD 2.x and SDXL's second encoder have it.
    OpenClip,
    /// The original ControlNet, where the last convolution over the image has this number.
    ControlNet { last: usize },
    /// The original T2I-Adapter.
    T2iAdapter { light: bool },
    /// Ours: nothing is renamed.
    Ours,
}

/// Which part of a tensor of the file is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Whole,
    /// This third of its rows: q, k or v.
    Third(usize),
    /// Rows are columns.
    Transposed,
}

impl Names {
    /// The names in the file of every tensor that is declared: each with our name and the part of it that is ours.
    fn table(
        place: Place,
        declarations: &Declarations,
        source: usize,
    ) -> HashMap<String, Vec<(String, Piece)>> {
        let specs = declarations.specs.iter().filter(|spec| spec.source == source);
        let ours: Vec<&str> = specs.flat_map(|s| &s.parts).map(|part| part.names[0].as_str()).collect();
        let mut count = Count::of(ours.iter().copied());
        count.stride = place.stride.unwrap_or(count.stride);
        let mut table = HashMap::<String, Vec<(String, Piece)>>::new();
        for name in ours {
            for (original, piece) in place.names.original(name, count) {
                table.entry(place.name(&original)).or_default().push((name.to_owned(), piece));
            }
        }
        table
    }

    /// The original names of one tensor: two where files differ, none where the original code has no such
    /// tensor.
    fn original(self, name: &str, count: Count) -> Vec<(String, Piece)> {
        let path: Vec<&str> = name.split('.').collect();
        let whole = |names: Vec<String>| names.into_iter().map(|n| (n, Piece::Whole)).collect();
        match self {
            Names::Unet => whole(unet(&path, count).unwrap_or_default()),
            Names::Vae => whole(vae(&path, count).into_iter().collect()),
            // Some early files leave `text_model` out.
            Names::Clip => {
                let short = name.strip_prefix("text_model.").map(str::to_owned);
                whole([name.to_owned()].into_iter().chain(short).collect())
            }
            Names::OpenClip => open_clip(&path),
            Names::ControlNet { last } => {
                whole(controlnet::control(&path, count, last).into_iter().collect())
            }
            Names::T2iAdapter { light } => whole(t2i_adapter::t2i(&path, light).into_iter().collect()),
            Names::Ours => whole(vec![name.to_owned()]),
        }
    }
}

/// The modules of the original U-Net that the modules of ours are, by our paths.
pub(super) fn unet_modules<'a>(ours: impl Iterator<Item = &'a str> + Clone) -> Vec<(String, &'a str)> {
    let count = Count::of(ours.clone());
    let mut modules = vec![];
    for path in ours {
        // A module is named like its weight.
        let tensor: Vec<&str> = path.split('.').chain(["weight"]).collect();
        for original in unet(&tensor, count).unwrap_or_default() {
            modules.push((original.trim_end_matches(".weight").to_owned(), path));
        }
    }
    modules
}

/// What the original numbers depend on.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// How far the first blocks of two levels are apart.
    stride: usize,
    /// Up blocks.
    levels: usize,
}

impl Count {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Count {
        let mut count = Count { stride: 1, levels: 0 };
        for name in names {
            let path: Vec<&str> = name.split('.').collect();
            match path[..] {
                ["down_blocks", _, "resnets", i, ..] => count.stride = count.stride.max(after(i) + 1),
                ["decoder", "up_blocks", i, ..] => count.levels = count.levels.max(after(i)),
                _ => {}
            }
        }
        count
    }
}

/// How many there are, by the number of the last one.
fn after(index: &str) -> usize {
    index.parse::<usize>().map_or(0, |i| i + 1)
}

/// Blocks are numbered through: an input block is one resnet (with its transformer) or one downsampler, after
/// the first convolution; an output block is one resnet with its transformer, the last of a level also with the
/// upsampler, which stands second where there is no transformer.
fn unet(path: &[&str], count: Count) -> Option<Vec<String>> {
    let per_block = count.stride;
    let number = |i: &str| i.parse::<usize>().ok();
    let block = |b: &str, i: &str| Some(number(b)? * per_block + number(i)?);
    Some(vec![match path {
        ["time_embedding", "linear_1", end] => format!("time_embed.0.{end}"),
        ["time_embedding", "linear_2", end] => format!("time_embed.2.{end}"),
        ["add_embedding", "linear_1", end] => format!("label_emb.0.0.{end}"),
        ["add_embedding", "linear_2", end] => format!("label_emb.0.2.{end}"),
        ["conv_in", end] => format!("input_blocks.0.0.{end}"),
        ["conv_norm_out", end] => format!("out.0.{end}"),
        ["conv_out", end] => format!("out.2.{end}"),
        ["down_blocks", b, "resnets", i, rest @ ..] => {
            format!("input_blocks.{}.0.{}", block(b, i)? + 1, resnet(rest)?)
        }
        ["down_blocks", b, "attentions", i, rest @ ..] => {
            format!("input_blocks.{}.1.{}", block(b, i)? + 1, rest.join("."))
        }
        ["down_blocks", b, "downsamplers", _, "conv", end] => {
            format!("input_blocks.{}.0.op.{end}", (number(b)? + 1) * per_block)
        }
        ["mid_block", "resnets", i, rest @ ..] => {
            format!("middle_block.{}.{}", 2 * number(i)?, resnet(rest)?)
        }
        ["mid_block", "attentions", _, rest @ ..] => format!("middle_block.1.{}", rest.join(".")),
        ["up_blocks", b, "resnets", i, rest @ ..] => {
            format!("output_blocks.{}.0.{}", block(b, i)?, resnet(rest)?)
        }
        ["up_blocks", b, "attentions", i, rest @ ..] => {
            format!("output_blocks.{}.1.{}", block(b, i)?, rest.join("."))
        }
        ["up_blocks", b, "upsamplers", _, "conv", end] => {
            let last = (number(b)? + 1) * per_block - 1;
            return Some([1, 2].map(|at| format!("output_blocks.{last}.{at}.conv.{end}")).to_vec());
        }
        _ => return None,
    }])
}

/// Inside a resnet of the U-Net.
fn resnet(path: &[&str]) -> Option<String> {
    let [module, end] = path else { return None };
    let original = match *module {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        _ => return None,
    };
    Some(format!("{original}.{end}"))
}

/// Up blocks are numbered from the highest resolution down; the attention's projections are convolutions.
fn vae(path: &[&str], count: Count) -> Option<String> {
    let number = |i: &str| i.parse::<usize>().ok();
    let turned = |i: &str| count.levels.checked_sub(1 + number(i)?);
    let shortcut = |rest: &[&str]| rest.join(".").replace("conv_shortcut", "nin_shortcut");
    let (half, path) = match path {
        ["quant_conv" | "post_quant_conv", _] => return Some(path.join(".")),
        [half @ ("encoder" | "decoder"), rest @ ..] => (half, rest),
        _ => return None,
    };
    let rest = match path {
        ["conv_in" | "conv_out", _] => path.join("."),
        ["conv_norm_out", end] => format!("norm_out.{end}"),
        ["down_blocks", b, "resnets", i, rest @ ..] => format!("down.{b}.block.{i}.{}", shortcut(rest)),
        ["down_blocks", b, "downsamplers", _, "conv", end] => format!("down.{b}.downsample.conv.{end}"),
        ["up_blocks", b, "resnets", i, rest @ ..] => {
            format!("up.{}.block.{i}.{}", turned(b)?, shortcut(rest))
        }
        ["up_blocks", b, "upsamplers", _, "conv", end] => {
            format!("up.{}.upsample.conv.{end}", turned(b)?)
        }
        ["mid_block", "resnets", i, rest @ ..] => {
            format!("mid.block_{}.{}", number(i)? + 1, shortcut(rest))
        }
        ["mid_block", "attentions", "0", rest @ .., end] => {
            let module = match rest.join(".").as_str() {
                "group_norm" => "norm",
                "to_q" => "q",
                "to_k" => "k",
                "to_v" => "v",
                "to_out.0" => "proj_out",
                _ => return None,
            };
            format!("mid.attn_1.{module}.{end}")
        }
        _ => return None,
    };
    Some(format!("{half}.{rest}"))
}

fn open_clip(path: &[&str]) -> Vec<(String, Piece)> {
    let whole = |name: String| vec![(name, Piece::Whole)];
    match path {
        // A parameter that rows of pooled states are multiplied by; as a layer in files that tools wrote.
        ["text_projection", "weight"] => vec![
            ("text_projection".to_owned(), Piece::Transposed),
            ("text_projection.weight".to_owned(), Piece::Whole),
        ],
        ["text_model", "embeddings", "token_embedding", end] => whole(format!("token_embedding.{end}")),
        ["text_model", "embeddings", "position_embedding", _] => whole("positional_embedding".to_owned()),
        ["text_model", "final_layer_norm", end] => whole(format!("ln_final.{end}")),
        ["text_model", "encoder", "layers", i, rest @ .., end] => {
            let (module, piece) = match rest.join(".").as_str() {
                "layer_norm1" => ("ln_1.", Piece::Whole),
                "layer_norm2" => ("ln_2.", Piece::Whole),
                "mlp.fc1" => ("mlp.c_fc.", Piece::Whole),
                "mlp.fc2" => ("mlp.c_proj.", Piece::Whole),
                "self_attn.out_proj" => ("attn.out_proj.", Piece::Whole),
                "self_attn.q_proj" => ("attn.in_proj_", Piece::Third(0)),
                "self_attn.k_proj" => ("attn.in_proj_", Piece::Third(1)),
                "self_attn.v_proj" => ("attn.in_proj_", Piece::Third(2)),
                _ => return vec![],
            };
            vec![(format!("transformer.resblocks.{i}.{module}{end}"), piece)]
        }
        _ => vec![],
    }
}

/// Hands the tensors of a single file on under our names.
pub struct Renamed<'a> {
    sink: &'a mut dyn Sink,
    place: Place,
    table: HashMap<String, Vec<(String, Piece)>>,
    /// What is wanted of each tensor of the file, as the sink knows it.
    wanted: HashMap<String, Vec<(TensorInfo, Piece)>>,
    /// A tensor that is to be turned, as far as it has come.
    columns: Vec<f32>,
    /// Tensors of the component that were not asked for by any name.
    pub unknown: Vec<String>,
}

impl<'a> Renamed<'a> {
    /// For the declarations of one source, which the sink is filled for.
    pub fn new(sink: &'a mut dyn Sink, place: Place, declarations: &Declarations, source: usize) -> Self {
        let table = Names::table(place, declarations, source);
        Renamed { sink, place, table, wanted: HashMap::new(), columns: vec![], unknown: vec![] }
    }
}

impl Piece {
    /// The shape of our tensor in one of the file.
    fn shape(self, info: &TensorInfo) -> Result<Vec<usize>> {
        let mut shape = info.shape.clone();
        match self {
            Piece::Whole => {}
            Piece::Third(_) => match shape.first_mut() {
                Some(rows) if rows.is_multiple_of(3) => *rows /= 3,
                _ => {
                    return Err(Error::model(format!(
                        "{}: wanted the rows of q, k and v, found the shape {:?}",
                        info.name, info.shape
                    )));
                }
            },
            Piece::Transposed => shape.reverse(),
        }
        Ok(shape)
    }
}

impl Sink for Renamed<'_> {
    fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
        let Some(ours) = self.table.get(&info.name) else { return self.unknown(info) };
        let mut wanted = vec![];
        for (name, piece) in ours {
            let ours = TensorInfo { name: name.clone(), shape: piece.shape(info)?, ..info.clone() };
            let wants = self.sink.wants(&ours);
            let named = |e: Error| match info.name == ours.name {
                true => e,
                false => Error::new(e.code, format!("{}, here {}", info.name, e.message)),
            };
            if wants.map_err(named)? {
                wanted.push((ours, *piece));
            }
        }
        let any = !wanted.is_empty();
        self.wanted.insert(info.name.clone(), wanted);
        Ok(any)
    }

    /// All that one tensor becomes is stored alike.
    fn stored_in(&self, info: &TensorInfo) -> Format {
        self.wanted[&info.name].first().map_or(Format::F32, |(ours, _)| self.sink.stored_in(ours))
    }

    fn slab(&mut self, info: &TensorInfo, first_row: usize, rows: usize, data: &[f32]) -> Result<()> {
        let (row_len, end) = (info.row_len(), first_row + rows);
        for (ours, piece) in &self.wanted[&info.name] {
            match *piece {
                Piece::Whole => self.sink.slab(ours, first_row, rows, data)?,
                Piece::Third(third) => {
                    let begin = third * ours.rows();
                    let (from, to) = (first_row.max(begin), end.min(begin + ours.rows()));
                    if from < to {
                        let data = &data[(from - first_row) * row_len..(to - first_row) * row_len];
                        self.sink.slab(ours, from - begin, to - from, data)?;
                    }
                }
                Piece::Transposed => {
                    self.columns.extend_from_slice(data);
                    if end == info.rows() {
                        let turned: Vec<f32> = (0..row_len)
                            .flat_map(|c| self.columns.iter().skip(c).step_by(row_len))
                            .copied()
                            .collect();
                        self.sink.slab(ours, 0, row_len, &turned)?;
                        self.columns.clear();
                    }
                }
            }
        }
        Ok(())
    }
}
