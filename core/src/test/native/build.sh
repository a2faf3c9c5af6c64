#!/bin/sh
# Builds the stand-ins for CUDA's libraries.  build.sh FOLDER INCLUDE  (INCLUDE holds cuda.h)
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
# Without a soname the driver is found by its path only: the real NVRTC, where a test has loaded it
# too, looks for libcuda.so.1 and must not find this one.
# Nothing of libstdc++ is shared with the real libraries, which may be in the same process.
flags="-std=c++17 -O2 -Wall -fPIC -shared -fvisibility=hidden -fno-gnu-unique -static-libstdc++"
flags="$flags -static-libgcc -Wl,--exclude-libs,ALL"
g++ $flags -I"$2" -o "$1/libcuda.so.1" "$here/driver.cpp" -ldl &
driver=$!
g++ $flags -DSHIM="\"$here/shim.h\"" -o "$1/libnvrtc.so.13" "$here/nvrtc.cpp" &
nvrtc=$!
g++ $flags -O3 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -o "$1/libcublasLt.so.13" "$here/cublas.cpp" &
cublas=$!
wait $driver
wait $nvrtc
wait $cublas
cp "$1/libcublasLt.so.13" "$1/libcublas.so.13"
