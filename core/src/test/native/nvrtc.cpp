// A stand-in for NVRTC: compiles kernels with g++ for the stand-in GPU of shim.h, whose path is
// given when this file is compiled. Its machine code and PTX are shared
// libraries.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
struct Program {
  std::string source, name, log, code;
  bool ptx;
};
const int ARCHITECTURES[] = {80, 90, 100, 120};
std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}
}  // namespace

EXPORT const char* nvrtcGetErrorString(int status) {
  return status == 0   ? "NVRTC_SUCCESS"
         : status == 5 ? "NVRTC_ERROR_INVALID_OPTION"
         : status == 6 ? "NVRTC_ERROR_COMPILATION"
                       : "NVRTC_ERROR unknown";
}
EXPORT int nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 99;
  return 0;
}
EXPORT int nvrtcCreateProgram(Program** out, const char* source, const char* name, int headers,
                              const char* const*, const char* const*) {
  *out = new Program{source, name, "", "", false};
  return headers == 0 ? 0 : 1;
}
EXPORT int nvrtcDestroyProgram(Program** program) {
  delete *program;
  *program = 0;
  return 0;
}
EXPORT int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  std::string flags;
  for (int i = 0; i < count; i++) {
    std::string option = options[i];
    if (option.rfind("-arch=", 0) == 0) {
      program->ptx = option.rfind("-arch=compute_", 0) == 0;
      int number = atoi(option.c_str() + option.find('_') + 1);
      if (std::count(std::begin(ARCHITECTURES), std::end(ARCHITECTURES), number) == 0) {
        program->log = "nvrtc: error: invalid value for --gpu-architecture (-arch)";
        return 5;
      }
    } else {
      flags += " '" + option + "'";
    }
  }
  std::string source = program->source + "\n";
  std::regex kernel("KERNEL\\s+(?:__launch_bounds__\\([^)]*\\)\\s*)?(\\w+)\\(");
  std::string exports;
  for (std::sregex_iterator i(program->source.begin(), program->source.end(), kernel), end; i != end;
       ++i) {
    // One that the preprocessor left out has no definition, so it must not be exported either.
    exports += "LW_EXPORT(" + (*i)[1].str() + ")\n";
  }
  char folder[] = "/tmp/lanewise-nvrtc-XXXXXX";
  if (mkdtemp(folder) == 0) return 1;
  std::string base = folder;
  std::set<std::string> seen;
  std::istringstream lines(exports);
  for (std::string line; std::getline(lines, line);) {
    if (seen.insert(line).second) source += line + "\n";
  }
  std::ofstream(base + "/k.cpp") << source;
  std::string command = "g++ -std=c++17 -O2 -w -fno-gnu-unique -fPIC -shared -include '" SHIM "'" + flags + " -o " +
                        base + "/k.so " + base + "/k.cpp 2> " + base + "/log";
  int status = system(command.c_str());
  program->log = contents(base + "/log");
  program->code = contents(base + "/k.so");
  for (const char* file : {"/k.cpp", "/k.so", "/log"}) unlink((base + file).c_str());
  rmdir(folder);
  return status == 0 ? 0 : 6;
}
EXPORT int nvrtcGetCUBINSize(Program* program, size_t* size) {
  *size = program->ptx ? 0 : program->code.size();
  return 0;
}
EXPORT int nvrtcGetCUBIN(Program* program, char* out) {
  if (program->ptx) return 3;
  memcpy(out, program->code.data(), program->code.size());
  return 0;
}
EXPORT int nvrtcGetPTXSize(Program* program, size_t* size) {
  *size = program->ptx ? program->code.size() : 0;
  return 0;
}
EXPORT int nvrtcGetPTX(Program* program, char* out) {
  if (!program->ptx) return 3;
  memcpy(out, program->code.data(), program->code.size());
  return 0;
}
EXPORT int nvrtcGetNumSupportedArchs(int* count) {
  *count = sizeof ARCHITECTURES / sizeof *ARCHITECTURES;
  return 0;
}
EXPORT int nvrtcGetSupportedArchs(int* out) {
  memcpy(out, ARCHITECTURES, sizeof ARCHITECTURES);
  return 0;
}
EXPORT int nvrtcGetProgramLogSize(Program* program, size_t* size) {
  *size = program->log.size() + 1;
  return 0;
}
EXPORT int nvrtcGetProgramLog(Program* program, char* out) {
  memcpy(out, program->log.c_str(), program->log.size() + 1);
  return 0;
}
