//! Heap memory that this thread holds, counted.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes allocated and not freed. Memory that another thread frees keeps counting here.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, which a thread asks now and then how much it holds.
struct Counting;

// SAFETY: all work is left to the system's allocator, and counting allocates nothing: the counter is
// made without an allocation and needs no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller upholds the contract of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; the memory is of `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

fn count(bytes: isize) {
    HELD.set(HELD.get() + bytes);
}

/// Bytes on the heap that a copy of `value` takes.
pub fn bytes_of<T: Clone>(value: &T) -> usize {
    let before = HELD.get();
    let copy = value.clone();
    let bytes = HELD.get() - before;
    drop(copy);
    bytes.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_counts_with_all_that_it_holds_and_is_gone_then() {
        let before = HELD.get();
        let texts = vec!["a".repeat(1000), "b".repeat(500)];
        assert_eq!(bytes_of(&texts), 1500 + 2 * size_of::<String>());
        let mut grown = texts;
        grown[0].reserve_exact(100_000);
        assert_eq!(bytes_of(&grown), 1500 + 2 * size_of::<String>(), "room is no content");
        assert!(HELD.get() >= before + 101_000, "but it is held");
        drop(grown);
        assert_eq!(HELD.get(), before);
    }
}
