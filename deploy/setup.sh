#!/usr/bin/env bash
# Installs what `make build` and `make test` need and the machine lacks: the
# WebAssembly C toolchain for the JavaScript engine, strace, kcat, ip and nft for the tests,
# from Debian's packages.
# Toolchains of Go, Rust (cargo) and a C compiler are expected to be there.
set -eu
missing=()
need() { # command or file, package
  if [[ "$1" == /* ]]; then [[ -e "$1" ]] || missing+=("$2"); else command -v "$1" >/dev/null || missing+=("$2"); fi
}
for tool in go cargo gcc make; do
  command -v "$tool" >/dev/null || { echo "setup: $tool is missing: install it first" >&2; exit 1; }
done
need clang-19 clang-19
need wasm-ld-19 lld-19
need /usr/include/wasm32-wasi wasi-libc
need /usr/lib/llvm-19/lib/clang/19/lib/wasi libclang-rt-19-dev-wasm32
need strace strace
need kcat kcat
need ip iproute2
need nft nftables
if ((${#missing[@]} == 0)); then exit 0; fi
echo "setup: installing ${missing[*]}"
as_root=()
if [[ $(id -u) -ne 0 ]]; then as_root=(sudo); fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
