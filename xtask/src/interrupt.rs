//! Ctrl-C, as a condition that long work asks for, so that what was started is
//! also ended. A second Ctrl-C ends the command at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on, the first Ctrl-C is only noted.
pub(crate) fn install() -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&INTERRUPTED))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)))
            .context("cannot listen for Ctrl-C")?;
    }
    Ok(())
}

pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// Forgets the signal, for the work that has to be done because of it.
pub(crate) fn clear() {
    INTERRUPTED.store(false, Ordering::SeqCst);
}
