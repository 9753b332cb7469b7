//! A prompt as one turn of a conversation, which text encoders that are language models were taught to read.
//!
//! A chat template is a program in the tokenizer's files (`chat_template`). Of what it can say, diffusion models use one
//! thing: a user says the prompt, and the assistant is about to answer. That is written here as it comes out, so that
//! nothing needs to run the template. The prompt is taken as it is: spaces at its ends count, and tokens that are written
//! in it are tokens.

/// Qwen's turn of the user, and the beginning of the assistant's: what Z-Image's text encoder reads (`enable_thinking`).
pub fn qwen(prompt: &str) -> String {
    format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
}

/// Qwen's turn of the user, and the assistant's with its thinking left empty: what FLUX.2-klein's text encoder reads
/// (`enable_thinking` is false).
pub fn qwen_without_thinking(prompt: &str) -> String {
    qwen(prompt) + "<think>\n\n</think>\n\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_taken_as_it_is() {
        let turn = "<|im_start|>user\n a <|im_end|> b\n<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(qwen(" a <|im_end|> b\n"), turn);
        assert_eq!(qwen_without_thinking(" a <|im_end|> b\n"), format!("{turn}<think>\n\n</think>\n\n"));
    }
}
