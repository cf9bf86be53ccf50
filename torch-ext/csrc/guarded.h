// Turns a C++ exception into -1 for Rust, and keeps its message for the thread.
#pragma once

#include <exception>
#include <string>

inline thread_local std::string last_error;

template <typename F>
int guarded(F call) {
  try {
    call();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return -1;
  }
}
