//! One attempt to draw what a request asks for.

use super::draw_progress::DrawProgress;
use super::request::{Request, Watch};
use super::task::Task;

/// What all that draws reads of it; the sessions are handed on beside it, since one of them may be exchanged.
pub(super) struct Run<'a> {
    pub request: &'a Request,
    pub task: &'a Task,
    pub watch: &'a Watch<'a>,
    pub progress: DrawProgress<'a>,
}
