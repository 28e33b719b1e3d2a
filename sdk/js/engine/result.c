// What a script returned, written to the output frame.
#include "engine.h"

#include <string.h>

enum { OUTPUT_BYTES_MAX = 64 << 20, HEADERS_MAX = 1 << 16 };

// --- pieces: keys and values on their way out ---

static int piece_text(JSContext *ctx, JSValueConst v, Piece *piece) {
    size_t length;
    piece->text = JS_ToCStringLen(ctx, &length, v);
    if (!piece->text) return -1;
    piece->span = (Span){(const uint8_t *)piece->text, (int32_t)length};
    return 0;
}

static int piece_json(JSContext *ctx, JSValueConst v, Piece *piece, const char *what) {
    size_t size;
    const uint8_t *printed = unit_json(ctx, v, &size);
    if (printed) {
        piece->printed = true;
        piece->span = (Span){printed, (int32_t)size};
        return 0;
    }
    JSValue json = JS_JSONStringify(ctx, v, JS_UNDEFINED, JS_UNDEFINED);
    if (JS_IsException(json)) return -1;
    int failed = JS_IsUndefined(json) ? -1 : piece_text(ctx, json, piece);
    if (JS_IsUndefined(json)) JS_ThrowTypeError(ctx, "%s has no JSON text", what);
    JS_FreeValue(ctx, json);
    return failed;
}

// piece_buffer takes an ArrayBuffer or a view; 0 = taken, 1 = v is neither, -1 = thrown.
static int piece_buffer(JSContext *ctx, JSValueConst v, Piece *piece) {
    size_t at = 0, length = 0, size;
    if (JS_IsArrayBuffer(v)) {
        uint8_t *bytes = JS_GetArrayBuffer(ctx, &size, v);
        if (!bytes && size) return -1;
        piece->span = (Span){bytes, (int32_t)size};
        return 0;
    }
    if (JS_GetTypedArrayType(v) < 0) return 1;
    JSValue buffer = JS_GetTypedArrayBuffer(ctx, v, &at, &length, NULL);
    if (JS_IsException(buffer)) return -1;
    uint8_t *bytes = JS_GetArrayBuffer(ctx, &size, buffer);
    JS_FreeValue(ctx, buffer); // the view holds it
    if (length && !bytes) return -1;
    piece->span = (Span){bytes + at, (int32_t)length};
    return 0;
}

// piece_of turns what a script gives for a key, a value or a header into bytes. The caller copies them before it runs script
// again, and frees the piece.
int piece_of(JSContext *ctx, JSValueConst v, Piece *piece, const char *what) {
    piece->text = NULL;
    piece->printed = false;
    if (JS_IsNull(v)) {
        piece->span = (Span){NULL, -1};
        return 0;
    }
    if (JS_IsString(v)) return piece_text(ctx, v, piece);
    if (JS_IsUndefined(v) || JS_IsFunction(ctx, v) || JS_IsSymbol(v) || record_of(v)) {
        JS_ThrowTypeError(ctx, "%s must be null, text, bytes, or what JSON can hold", what);
        return -1;
    }
    if (JS_IsObject(v)) {
        if (bytes_is(v)) return bytes_span(ctx, v, &piece->span);
        int taken = piece_buffer(ctx, v, piece);
        if (taken <= 0) return taken;
    }
    return piece_json(ctx, v, piece, what);
}

void piece_free(JSContext *ctx, Piece *piece) {
    if (piece->text) JS_FreeCString(ctx, piece->text);
    piece->text = NULL;
    if (piece->printed) unit_json_free();
    piece->printed = false;
}

// --- headers ---

static int grow_failed(JSContext *ctx) {
    JS_ThrowOutOfMemory(ctx);
    return -1;
}

static int write_header(JSContext *ctx, JSValueConst name, JSValueConst value) {
    size_t length;
    const char *key = JS_ToCStringLen(ctx, &length, name);
    if (!key) return -1;
    Piece piece;
    int failed = piece_of(ctx, value, &piece, "a header's value");
    if (!failed) {
        size_t bytes = piece.span.length > 0 ? piece.span.length : 0;
        uint8_t *p = output_grow(HEADER_FIXED_BYTES + length + bytes);
        if (p) {
            write_u32(p, (uint32_t)length);
            write_u32(p + 4, (uint32_t)piece.span.length);
            memcpy(p + HEADER_FIXED_BYTES, key, length);
            if (bytes) memcpy(p + HEADER_FIXED_BYTES + length, piece.span.at, bytes);
        } else {
            failed = grow_failed(ctx);
        }
        piece_free(ctx, &piece);
    }
    JS_FreeCString(ctx, key);
    return failed;
}

// write_source_headers copies the source record's headers and returns their count.
static int write_source_headers(JSContext *ctx) {
    const uint8_t *start = record_headers(engine.fixed), *p = start;
    uint32_t count = read_u32(engine.fixed + 4);
    for (uint32_t i = 0; i < count; i++) {
        int32_t value = read_i32(p + 4);
        p += HEADER_FIXED_BYTES + read_i32(p) + (value > 0 ? value : 0);
    }
    if (count == 0) return 0;
    uint8_t *to = output_grow(p - start);
    if (!to) return grow_failed(ctx);
    memcpy(to, start, p - start);
    return (int)count;
}

static int write_pairs(JSContext *ctx, JSValueConst list) {
    int64_t count;
    if (JS_GetLength(ctx, list, &count)) return -1;
    if (count > HEADERS_MAX) {
        JS_ThrowRangeError(ctx, "%d headers, the limit is %d", (int)count, HEADERS_MAX);
        return -1;
    }
    for (int64_t i = 0; i < count; i++) {
        JSValue pair = JS_GetPropertyUint32(ctx, list, (uint32_t)i);
        if (JS_IsException(pair)) return -1;
        if (!JS_IsArray(pair)) {
            JS_FreeValue(ctx, pair);
            JS_ThrowTypeError(ctx, "headers must be a list of [name, value], an object, or a record's headers");
            return -1;
        }
        JSValue name = JS_GetPropertyUint32(ctx, pair, 0), value = JS_GetPropertyUint32(ctx, pair, 1);
        int failed = JS_IsException(name) || JS_IsException(value) || write_header(ctx, name, value);
        JS_FreeValue(ctx, name);
        JS_FreeValue(ctx, value);
        JS_FreeValue(ctx, pair);
        if (failed) return -1;
    }
    return (int)count;
}

static int write_object_headers(JSContext *ctx, JSValueConst object) {
    JSPropertyEnum *names;
    uint32_t count;
    if (JS_GetOwnPropertyNames(ctx, &names, &count, object, JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY)) return -1;
    int written = count > HEADERS_MAX ? -1 : (int)count;
    if (written < 0) JS_ThrowRangeError(ctx, "%d headers, the limit is %d", (int)count, HEADERS_MAX);
    for (uint32_t i = 0; i < count && written >= 0; i++) {
        JSValue name = JS_AtomToString(ctx, names[i].atom), value = JS_GetProperty(ctx, object, names[i].atom);
        if (JS_IsException(name) || JS_IsException(value) || write_header(ctx, name, value)) written = -1;
        JS_FreeValue(ctx, name);
        JS_FreeValue(ctx, value);
    }
    JS_FreePropertyEnum(ctx, names, count);
    return written;
}

// write_headers takes undefined (the source's), null (none), a list of pairs, a Headers or an object; it returns the count.
static int write_headers(JSContext *ctx, JSValueConst v) {
    if (JS_IsUndefined(v)) return write_source_headers(ctx);
    if (JS_IsNull(v)) return 0;
    if (!JS_IsObject(v)) {
        JS_ThrowTypeError(ctx, "headers must be a list of [name, value], an object, or a record's headers");
        return -1;
    }
    if (JS_IsArray(v)) return write_pairs(ctx, v);
    JSValue list = JS_GetProperty(ctx, v, engine.atom_list);
    if (JS_IsException(list)) return -1;
    int count = JS_IsArray(list) ? write_pairs(ctx, list) : write_object_headers(ctx, v);
    JS_FreeValue(ctx, list);
    return count;
}

// --- entries ---

typedef struct {
    uint16_t output;
    int32_t partition;
} Route;

static int write_entry(JSContext *ctx, Route route, Span key, Span value, JSValueConst headers) {
    size_t start = engine.output_size, keys = key.length > 0 ? key.length : 0, values = value.length > 0 ? value.length : 0;
    if (start + keys + values > OUTPUT_BYTES_MAX) {
        JS_ThrowRangeError(ctx, "the output of one batch exceeds %d bytes", OUTPUT_BYTES_MAX);
        return -1;
    }
    uint8_t *p = output_grow(ENTRY_FIXED_BYTES + keys + values);
    if (!p) return grow_failed(ctx);
    write_u32(p + 4, engine.source);
    write_u16(p + 8, route.output);
    write_u16(p + 10, 0);
    write_u32(p + 12, (uint32_t)route.partition);
    write_u32(p + 20, (uint32_t)key.length);
    write_u32(p + 24, (uint32_t)value.length);
    write_u32(p + 28, 0);
    if (keys) memcpy(p + ENTRY_FIXED_BYTES, key.at, keys);
    if (values) memcpy(p + ENTRY_FIXED_BYTES + keys, value.at, values);
    int count = write_headers(ctx, headers); // may move the buffer
    if (count < 0) return -1;
    size_t padding = -engine.output_size & 7;
    uint8_t *end = output_grow(padding);
    if (!end) return grow_failed(ctx);
    memset(end, 0, padding);
    p = engine.output + start;
    write_u32(p, (uint32_t)(engine.output_size - start));
    write_u32(p + 16, (uint32_t)count);
    engine.entries++;
    return 0;
}

static int write_pass(JSContext *ctx, Route route) {
    return output_pass(route.output, route.partition) ? 0 : grow_failed(ctx);
}

static int write_record(JSContext *ctx, Record *r) {
    Route route = {0, -1};
    int changed = 0;
    if (!JS_IsUndefined(r->headers)) {
        JSValue v = JS_GetProperty(ctx, r->headers, engine.atom_changed);
        if (JS_IsException(v)) return -1;
        changed = JS_ToBool(ctx, v);
        JS_FreeValue(ctx, v);
    }
    if (changed < 0) return -1;
    if (!changed && !r->key_set && !r->value_set) return write_pass(ctx, route);
    return write_entry(ctx, route, r->key_set ? r->key_span : record_key(engine.fixed),
                       r->value_set ? r->value_span : record_value(engine.fixed), changed ? r->headers : JS_UNDEFINED);
}

// Fields of a returned object.
typedef struct {
    JSValue key, value, headers, output, partition;
} Fields;

static void fields_free(JSContext *ctx, Fields *f) {
    JS_FreeValue(ctx, f->key);
    JS_FreeValue(ctx, f->value);
    JS_FreeValue(ctx, f->headers);
    JS_FreeValue(ctx, f->output);
    JS_FreeValue(ctx, f->partition);
}

// fields_check refuses a field that is none of ours: a mistyped name would lose data silently.
static int fields_check(JSContext *ctx, JSValueConst v) {
    JSPropertyEnum *names;
    uint32_t count;
    int failed = 0;
    if (JS_GetOwnPropertyNames(ctx, &names, &count, v, JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY)) return -1;
    for (uint32_t i = 0; i < count && !failed; i++) {
        JSAtom a = names[i].atom;
        if (a == engine.atom_key || a == engine.atom_value || a == engine.atom_headers || a == engine.atom_output || a == engine.atom_partition)
            continue;
        const char *name = JS_AtomToCString(ctx, a);
        JS_ThrowTypeError(ctx, "a result has no field %s: it has key, value, headers, output and partition%s", name ? name : "?",
                          name && !strcmp(name, "timestamp") ? " (the timestamp is always the source record's)" : "");
        JS_FreeCString(ctx, name);
        failed = -1;
    }
    JS_FreePropertyEnum(ctx, names, count);
    return failed;
}

static int route_of(JSContext *ctx, Fields *f, Route *route) {
    *route = (Route){0, -1};
    if (!JS_IsUndefined(f->output)) {
        int index = host_output_index(ctx, f->output);
        if (index < 0) return -1;
        route->output = (uint16_t)index;
    }
    if (!JS_IsUndefined(f->partition) && !JS_IsNull(f->partition)) {
        double number;
        if (!JS_IsNumber(f->partition) || JS_ToFloat64(ctx, &number, f->partition) || number < 0 || number > INT32_MAX || number != (int32_t)number) {
            JS_ThrowTypeError(ctx, "partition must be a whole number from 0");
            return -1;
        }
        route->partition = (int32_t)number;
    }
    return 0;
}

static int write_fields(JSContext *ctx, Fields *f) {
    Route route;
    if (route_of(ctx, f, &route)) return -1;
    if (JS_IsUndefined(f->key) && JS_IsUndefined(f->value) && JS_IsUndefined(f->headers)) return write_pass(ctx, route);
    Piece key = {record_key(engine.fixed), NULL, false}, value = {record_value(engine.fixed), NULL, false};
    int failed = (!JS_IsUndefined(f->key) && piece_of(ctx, f->key, &key, "key")) ||
                 (!JS_IsUndefined(f->value) && piece_of(ctx, f->value, &value, "value")) ||
                 write_entry(ctx, route, key.span, value.span, f->headers);
    piece_free(ctx, &key);
    piece_free(ctx, &value);
    return failed ? -1 : 0;
}

static int write_one(JSContext *ctx, JSValueConst v) {
    if (JS_IsUndefined(v) || JS_IsNull(v)) return 0;
    if (JS_IsBool(v)) return JS_VALUE_GET_BOOL(v) ? write_pass(ctx, (Route){0, -1}) : 0;
    Record *r = record_of(v);
    if (r) return write_record(ctx, r);
    if (JS_IsPromise(v)) {
        JS_ThrowTypeError(ctx, "a transform must not be async: it has nothing to wait for");
        return -1;
    }
    if (!JS_IsObject(v) || JS_IsArray(v) || JS_IsFunction(ctx, v) || bytes_is(v) || JS_IsArrayBuffer(v) || JS_GetTypedArrayType(v) >= 0) {
        JS_ThrowTypeError(ctx, "a transform returns nothing, true or false, its record, {key, value, headers, output, partition}, or a list of these");
        return -1;
    }
    if (fields_check(ctx, v)) return -1;
    Fields f = {
        JS_GetProperty(ctx, v, engine.atom_key),    JS_GetProperty(ctx, v, engine.atom_value),
        JS_GetProperty(ctx, v, engine.atom_headers), JS_GetProperty(ctx, v, engine.atom_output),
        JS_GetProperty(ctx, v, engine.atom_partition),
    };
    int failed = JS_HasException(ctx) ? -1 : write_fields(ctx, &f);
    fields_free(ctx, &f);
    return failed;
}

// result_write writes what the script returned for the current record: 0, or -1 with an exception pending.
int result_write(JSContext *ctx, JSValueConst v) {
    if (!JS_IsArray(v)) return write_one(ctx, v);
    int64_t count;
    if (JS_GetLength(ctx, v, &count)) return -1;
    for (int64_t i = 0; i < count; i++) {
        JSValue item = JS_GetPropertyUint32(ctx, v, (uint32_t)i);
        int failed = JS_IsException(item) || write_one(ctx, item);
        JS_FreeValue(ctx, item);
        if (failed) return -1;
    }
    return 0;
}
