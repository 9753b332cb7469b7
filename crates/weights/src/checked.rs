//! A file that is hashed while it is read.

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::source::{ByteStream, OpenFile};
use crate::error::{Code, Error, Result};

/// A file, and the sha256 that it must have: then all of it is read. The sha256 is empty where it is only to be told.
pub(super) struct Checked {
    file: OpenFile,
    hash: Option<(Sha256, String)>,
}

impl Checked {
    pub fn new(file: OpenFile, sha256: Option<String>) -> Self {
        Checked { file, hash: sha256.map(|wanted| (Sha256::new(), wanted)) }
    }

    /// To be called at the end. Tells what was read, if it was hashed; `Integrity` if this was another file than the one
    /// that was published.
    pub async fn finish(mut self, path: &str, tell: impl Fn(&str)) -> Result<()> {
        if self.hash.is_some() {
            self.skip(u64::MAX).await?;
        } else if self.len().is_none() {
            // That it ends here is seen by whoever keeps it.
            self.read(&mut [0]).await?;
        }
        let Some((hash, wanted)) = self.hash else { return Ok(()) };
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        tell(&found);
        if found != wanted && !wanted.is_empty() {
            return Err(Error::new(
                Code::Integrity,
                format!("{path} is damaged: its sha256 is {found}, wanted {wanted}"),
            ));
        }
        Ok(())
    }
}

#[async_trait(?Send)]
impl ByteStream for Checked {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let got = self.file.read(buf).await?;
        if let Some((hash, _)) = &mut self.hash {
            hash.update(&buf[..got]);
        }
        Ok(got)
    }

    fn len(&self) -> Option<u64> {
        self.file.len()
    }

    async fn skip(&mut self, bytes: u64) -> Result<()> {
        if self.hash.is_none() {
            return self.file.skip(bytes).await;
        }
        let (mut left, mut dropped) = (bytes, vec![0; 1 << 16]);
        while left > 0 {
            let most = left.min(dropped.len() as u64) as usize;
            match self.read(&mut dropped[..most]).await? {
                0 => break,
                got => left -= got as u64,
            }
        }
        Ok(())
    }
}
