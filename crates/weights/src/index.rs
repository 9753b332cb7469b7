//! The index of a sharded checkpoint.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::json;

/// Which shards there are. `shards` maps a file name to the tensors it should hold, at least one.
pub struct Index {
    pub shards: BTreeMap<String, Vec<String>>,
    pub total: Option<u64>,
}

impl Index {
    pub fn parse(bytes: &[u8], path: &str) -> Result<Index> {
        let json: Value = json::check(bytes)
            .and_then(|()| serde_json::from_slice(bytes))
            .map_err(|e| Error::model(format!("{path} is not valid JSON: {e}")))?;
        let map = json.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| {
            Error::model(format!("{path} has no weight_map, wanted tensor names and their files"))
        })?;
        let mut shards = BTreeMap::<String, Vec<String>>::new();
        for (name, shard) in map {
            // Shards lie beside their index; anything else would lead out of the model's folder.
            let shard =
                shard.as_str().filter(|s| s.ends_with(".safetensors") && !s.contains(['/', '\\', ':']));
            let shard = shard.ok_or_else(|| {
                Error::model(format!(
                    "{path}: tensor '{name}' is said to be in {}, wanted the name of a \
                     .safetensors file beside the index",
                    map[name]
                ))
            })?;
            shards.entry(shard.to_string()).or_default().push(name.clone());
        }
        let total = json.get("metadata").and_then(|m| m.get("total_size"));
        let total = total.and_then(|t| t.as_u64().or(t.as_f64().map(|t| t as u64)));
        Ok(Index { shards, total })
    }
}
