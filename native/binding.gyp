{
  # Read by node-gyp, which `npm run build` calls. Every .cpp file in this folder belongs to the addon,
  # those in launcher/ to the program that starts others with less than it has itself.
  "targets": [
    {
      "target_name": "corral",
      "sources": ["<!@(ls *.cpp)"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti", "-O3"],
      "cflags_cc": [
        "-std=c++20",
        "-O2",
        "-fno-exceptions",
        "-fno-rtti",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wshadow",
        # As a system header: its own warnings are not ours.
        "-isystem", "<!(node -p \"require('path').resolve(require('node-addon-api').include_dir)\")",
        "-Wno-missing-field-initializers",
        "-Wno-cast-function-type",
      ],
      "ldflags": ["-Wl,-z,relro,-z,now"],
    },
    {
      # Before Node: what it takes away from itself, the program that it becomes does without. Links nothing of Node.
      "target_name": "corral-sandbox",
      "type": "executable",
      "sources": ["<!@(ls launcher/*.cpp)"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti", "-O3"],
      "cflags_cc": ["-std=c++20", "-O2", "-fno-exceptions", "-fno-rtti", "-fPIE", "-Wall", "-Wextra", "-Wshadow"],
      "ldflags": ["-pie", "-Wl,-z,relro,-z,now"],
    }
  ]
}
