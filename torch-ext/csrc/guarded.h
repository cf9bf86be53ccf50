// How a C++ exception leaves a function that Rust calls: as -1, its message kept for the thread.
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
