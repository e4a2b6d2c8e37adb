//! What becomes of memory that is freed.
#![allow(unsafe_code)] // The C library's allocator is set through its own function.

/// Keeps freed memory for what is allocated next instead of giving it back to the system, for the rest of the process.
///
/// Each step of a training frees and allocates the same large buffers; memory that went back to the system has to be mapped
/// and cleared anew, page by page. Call it at the start of a program that trains. Without effect where the C library is not
/// glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The most that a C int can say.
        const TRIM_BEYOND: i32 = i32::MAX;
        const GROW_BY: i32 = 64 << 20;
        for (parameter, value) in [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, TRIM_BEYOND), (libc::M_TOP_PAD, GROW_BY)] {
            // SAFETY: the function takes any parameter and value, and says 0 where it does not know them.
            let _known = unsafe { libc::mallopt(parameter, value) };
        }
    }
}
