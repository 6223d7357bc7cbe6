/**
 * corral-sandbox [--cpu SECONDS] [--data BYTES] PROGRAM [ARGUMENT]...
 *
 * Gives up whatever a program that only reads an open descriptor does not need, and becomes that program: Node has threads
 * when JavaScript starts, and what Landlock and seccomp take from one thread the others keep. Exit status 125, and a line
 * on standard error: nothing was started.
 */

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "confine.hpp"

namespace {

constexpr int NOT_STARTED = 125;

using corral::SystemError;
using corral::launcher::Limits;

int fail(const char* what, const char* why) {
  std::fprintf(stderr, "corral-sandbox: %s: %s\n", what, why);
  return NOT_STARTED;
}

bool parse(std::string_view text, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && value > 0;
}

}  // namespace

int main(int count, char** arguments) {
  Limits limits;
  int first = 1;
  for (; first + 1 < count && arguments[first][0] == '-'; first += 2) {
    const std::string_view option = arguments[first];
    const bool known = option == "--cpu" || option == "--data";
    auto& value = option == "--cpu" ? limits.cpuSeconds : limits.dataBytes;
    if (!known || !parse(arguments[first + 1], value)) return fail(arguments[first], "no such option, or no number");
  }
  if (first >= count) return fail("usage", "corral-sandbox [--cpu SECONDS] [--data BYTES] PROGRAM [ARGUMENT]...");
  char* program = arguments[first];
  if (program[0] != '/') return fail(program, "not an absolute path");

  // Privileges go first, calls last: what comes before needs them.
  for (const SystemError& error : {
           corral::launcher::limitResources(limits),
           corral::launcher::dropPrivileges(),
           corral::launcher::restrictFiles(program),
           corral::launcher::filterCalls(program),
       }) {
    if (error) return fail(error.operation, std::strerror(error.number));
  }
  ::execv(program, arguments + first);
  return fail(program, std::strerror(errno));
}
