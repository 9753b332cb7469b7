//! What a case may take: memory, counted by this program's own allocator, and time. A case that takes far too much
//! is told and the program ended, because nothing else ends an allocation or a loop.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::io::{Write, stderr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex, Once};
use std::time::{Duration, Instant};

use tintype::error::{Code, Result};

use super::corpus;
use super::mutate::Files;

/// A case may have this much, and sixteen times as much as its files.
const MEMORY: usize = 64 << 20;
const TIME: Duration = Duration::from_secs(2);

/// Beyond these the program ends.
const ENDLESS_MEMORY: usize = 1 << 30;
const ENDLESS_TIME: Duration = Duration::from_secs(40);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Where and why the last guarded panic was.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The case that runs, since when: told and kept by whoever must end the program.
static RUNNING: Mutex<Option<(Instant, String, Files)>> = Mutex::new(None);

fn count(bytes: isize) {
    // A thread that ends frees what it had when its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
        if held.get() > ENDLESS_MEMORY as isize && GUARDED.replace(false) {
            end(&format!("it asked for {} MiB", held.get() >> 20));
        }
    });
}

fn end(why: &str) -> ! {
    let running = RUNNING.lock().map(|mut running| running.take());
    if let Ok(Some((_, name, files))) = running {
        // Past what keeps a test's words until it ends.
        let _ = writeln!(stderr(), "{name}: {why}; kept in {}", corpus::keep(&name, &files).display());
    }
    std::process::exit(1);
}

// SAFETY: all is done by the system's allocator; counting allocates nothing before it ends the program.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that are wanted.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // As if both were there for a moment, as they may be.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Runs a case and says what is wrong with how it ended, if anything is.
pub fn watched(name: &str, files: &Files, run: fn(&Files) -> Result<()>) -> Option<String> {
    prepare();
    let allowed = MEMORY + 16 * files.values().map(|bytes| bytes.len()).sum::<usize>();
    let mut took = Duration::MAX;
    // Of three runs the fastest counts.
    for _ in 0..3 {
        *RUNNING.lock().unwrap() = Some((Instant::now(), name.to_owned(), files.clone()));
        let (begun, held) = (busy(), HELD.get());
        MOST.set(held);
        GUARDED.set(true);
        let ended = catch_unwind(AssertUnwindSafe(|| run(files)));
        GUARDED.set(false);
        let most = (MOST.get() - held) as usize;
        took = took.min(busy() - begun);
        *RUNNING.lock().unwrap() = None;
        match ended {
            Err(_) => return Some(format!("it panicked {}", PANIC.take())),
            Ok(Err(e)) if e.code == Code::Internal => return Some(format!("an error of our own: {e}")),
            Ok(Err(e)) if e.message.is_empty() => return Some("an error that says nothing".to_owned()),
            _ => {}
        }
        if most > allowed {
            let [most, allowed] = [most, allowed].map(|bytes| bytes >> 20);
            return Some(format!("it took {most} MiB, {allowed} MiB are allowed"));
        }
        if took <= TIME {
            return None;
        }
    }
    Some(format!("it took {:.1} s, {} s are allowed", took.as_secs_f64(), TIME.as_secs()))
}

/// How long this thread has computed, where the system tells: a machine that does other things too makes time pass.
fn busy() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|line| line.split(' ').next()?.parse().ok());
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Keeps guarded panics quiet, and ends what does not end.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                return usual(panic);
            }
            let place =
                panic.location().map_or(String::new(), |at| format!("at {}:{}", at.file(), at.line()));
            let said = panic.payload_as_str().unwrap_or_default();
            PANIC.set(format!("{place}: {}", said.chars().take(200).collect::<String>()));
        }));
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let begun = RUNNING.lock().unwrap().as_ref().map(|(begun, ..)| *begun);
                if begun.is_some_and(|begun| begun.elapsed() > ENDLESS_TIME) {
                    end(&format!("it had not ended after {} s", ENDLESS_TIME.as_secs()));
                }
            }
        });
    });
}
