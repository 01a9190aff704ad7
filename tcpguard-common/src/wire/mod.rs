//! The bounded walk over a frame's headers.
