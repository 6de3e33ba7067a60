//! The process as an operator meets it: its end, its refusals, its exit codes.
