#!/bin/sh
# Builds the JavaScript engine: build/js-engine/millrace-js.wasm at the root of the tree, a reactor of the ABI of docs/ABI.md.
# Does nothing when its inputs have not changed. QuickJS-ng's sources come through cargo, pinned by sources/Cargo.lock.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
out=${1:-$root/build/js-engine}
CLANG=${CLANG:-clang-19}

fail() {
	echo "js engine: $*" >&2
	exit 1
}

check_tools() {
	for tool in "$CLANG" wasm-ld-19 cargo sha256sum; do
		command -v "$tool" >/dev/null || fail "$tool is missing: run 'make setup'"
	done
	[ -f /usr/include/wasm32-wasi/stdlib.h ] || fail "wasi-libc is missing: run 'make setup'"
	[ -f "$("$CLANG" --target=wasm32-wasi -print-resource-dir)/lib/wasi/libclang_rt.builtins-wasm32.a" ] ||
		fail "libclang-rt-19-dev-wasm32 is missing: run 'make setup'"
}

# digest FILE... : of names and contents
digest() {
	{
		"$CLANG" --version | head -n 1
		echo "$flags $libflags $linkflags"
		(cd "$here" && sha256sum "$@")
	} | sha256sum | cut -d ' ' -f 1
}

up_to_date() { # TARGET DIGEST
	[ -f "$1" ] && [ "$(cat "$1.digest" 2>/dev/null)" = "$2" ]
}

fetch_sources() {
	quickjs=$out/vendor/rquickjs-sys/quickjs
	if ! cmp -s "$here/sources/Cargo.lock" "$out/vendor.lock" || [ ! -f "$quickjs/quickjs.c" ]; then
		rm -rf "$out/vendor" "$out/vendor.lock"
		cargo vendor --quiet --locked --manifest-path "$here/sources/Cargo.toml" "$out/vendor" >/dev/null ||
			fail "cargo could not fetch the crate rquickjs-sys"
		cp "$here/sources/Cargo.lock" "$out/vendor.lock"
	fi
}

# Its asserts name source files: by relative paths, so that the engine, and with
# it a script's digest, is the same wherever it is built.
# The library changes rarely and takes longest: it is one object, kept apart.
build_library() {
	library=$(digest quickjs_unit.c json_print.c engine.h sources/Cargo.lock build.sh)
	if up_to_date "$out/library.o" "$library"; then
		return
	fi
	echo "js engine: compiling QuickJS-ng" >&2
	for unit in libregexp libunicode dtoa; do
		"$CLANG" $flags $libflags "-ffile-prefix-map=$out=." -c "$quickjs/$unit.c" -o "$out/$unit.o"
	done
	"$CLANG" $flags $libflags "-ffile-prefix-map=$out=." "-ffile-prefix-map=$here=." -I "$quickjs" -I "$here" -c "$here/quickjs_unit.c" -o "$out/quickjs_unit.o"
	wasm-ld-19 -r "$out/libregexp.o" "$out/libunicode.o" "$out/dtoa.o" "$out/quickjs_unit.o" -o "$out/library.o"
	echo "$library" >"$out/library.o.digest"
}

write_prelude() {
	{
		echo '(function (host) { "use strict";'
		sed 's/^export //' "$here/../headers.js"
		cat "$here/prelude.js"
		echo '})'
	} >"$out/prelude.gen.js"
}

flags="--target=wasm32-wasi -O2 -D_GNU_SOURCE -D_WASI_EMULATED_SIGNAL"
libflags="-w"
linkflags="-mexec-model=reactor -Wl,--strip-all -Wl,--stack-first -Wl,-z,stack-size=262144 -Wl,--export=__stack_pointer"

check_tools
mkdir -p "$out"
target=$out/millrace-js.wasm
own="frame.c record.c result.c host.c engine.c"
want=$(digest $own engine.h quickjs_unit.c json_print.c prelude.js ../headers.js build.sh sources/Cargo.lock)
if up_to_date "$target" "$want"; then
	exit 0
fi
fetch_sources
build_library
write_prelude
objects=
for unit in $own; do
	"$CLANG" $flags -std=gnu23 -msimd128 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-c23-extensions \
		-I "$here" -isystem "$quickjs" --embed-dir="$out" -c "$here/$unit" -o "$out/${unit%.c}.o"
	objects="$objects $out/${unit%.c}.o"
done
"$CLANG" $flags $linkflags $objects "$out/library.o" -lm -o "$target.new"
mv "$target.new" "$target"
echo "$want" >"$target.digest"
echo "js engine: built $target, $(wc -c <"$target") bytes" >&2
