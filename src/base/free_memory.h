#pragma once

namespace holdfast {

/// Gives memory that is free in the process back to the system, where the process takes much. To be
/// called after work that took much for a while: each thread's allocator keeps what its largest
/// work needed, and a daemon has many threads one after the other. Takes milliseconds at most.
/// Source: glibc malloc/arena.c, malloc_trim(3).
void give_back_free_memory();

}  // namespace holdfast
