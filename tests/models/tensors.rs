//! Safetensors files, parsed, changed and written back.

use half::{bf16, f16};
use serde_json::{Map, Value, json};

/// In the order of the data.
#[derive(Clone)]
pub struct Tensors(pub Vec<Tensor>);

#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensors {
    pub fn parse(file: &[u8]) -> Tensors {
        let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&file[8..start]).unwrap();
        let entries = header.iter().filter(|(name, _)| *name != "__metadata__");
        let mut tensors: Vec<(usize, Tensor)> = entries
            .map(|(name, entry)| {
                let at = |i: usize| start + entry["data_offsets"][i].as_u64().unwrap() as usize;
                let tensor = Tensor {
                    name: name.clone(),
                    dtype: entry["dtype"].as_str().unwrap().to_owned(),
                    shape: serde_json::from_value(entry["shape"].clone()).unwrap(),
                    bytes: file[at(0)..at(1)].to_vec(),
                };
                (at(0), tensor)
            })
            .collect();
        tensors.sort_by_key(|(begin, _)| *begin);
        Tensors(tensors.into_iter().map(|(_, tensor)| tensor).collect())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        let mut data = vec![];
        for t in &self.0 {
            let begin = data.len();
            data.extend(&t.bytes);
            let entry = json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [begin, data.len()]});
            header.insert(t.name.clone(), entry);
        }
        let header = Value::Object(header).to_string();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
    }

    pub fn get(&mut self, name: &str) -> &mut Tensor {
        let found = self.0.iter_mut().find(|t| t.name == name);
        found.unwrap_or_else(|| panic!("the file has no {name}"))
    }
}

impl Tensor {
    pub fn f32(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { name: name.to_owned(), dtype: "F32".to_owned(), shape: shape.to_vec(), bytes }
    }

    pub fn values(&self) -> Vec<f32> {
        let halves = || self.bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
        match self.dtype.as_str() {
            "F32" => self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            "F16" => halves().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            "BF16" => halves().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
            other => panic!("{}: {other}", self.name),
        }
    }

    /// The same values in another type, which must hold them exactly. Whole numbers stay as they are.
    pub fn convert(&mut self, dtype: &str) {
        if self.dtype == "I64" {
            return;
        }
        let values = self.values();
        let mut same = Tensor::f32(&self.name, &self.shape, &values);
        same.dtype = dtype.to_owned();
        same.bytes = match dtype {
            "F32" => same.bytes,
            "F16" => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            "BF16" => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            other => panic!("{other}"),
        };
        assert!(same.values() == values, "{} does not fit into {dtype}", self.name);
        *self = same;
    }
}
