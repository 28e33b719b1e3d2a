// The classes Record and Bytes: getters over the input frame, good for one record.
#include "engine.h"

#include <stdlib.h>
#include <string.h>
#include <wasm_simd128.h>

static JSClassID record_class, bytes_class;

// --- Bytes ---

static void bytes_finalize(JSRuntime *rt, JSValueConst v) {
    free(JS_GetOpaque(v, bytes_class));
}

static Bytes *bytes_live(JSContext *ctx, JSValueConst v) {
    Bytes *b = JS_GetOpaque2(ctx, v, bytes_class);
    if (b && b->turn != engine.turn) {
        JS_ThrowTypeError(ctx, "a key or value is used after its record's turn: keep a copy instead, like value.text() or value.bytes()");
        return NULL;
    }
    return b;
}

bool bytes_is(JSValueConst v) { return JS_GetClassID(v) == bytes_class; }

int bytes_span(JSContext *ctx, JSValueConst v, Span *span) {
    Bytes *b = bytes_live(ctx, v);
    if (!b) return -1;
    *span = b->span;
    return 0;
}

// bytes_handle returns a new reference to the handle of that slot, on those bytes.
static JSValue bytes_handle(JSContext *ctx, Bytes **slot, Span span) {
    if (span.length < 0) return JS_NULL;
    Bytes *b = *slot;
    if (!b) {
        JSValue object = JS_NewObjectClass(ctx, bytes_class);
        if (JS_IsException(object)) return object;
        b = calloc(1, sizeof *b);
        if (!b) {
            JS_FreeValue(ctx, object);
            return JS_ThrowOutOfMemory(ctx);
        }
        b->object = object;
        JS_SetOpaque(object, b);
        JS_PreventExtensions(ctx, object);
        *slot = b;
    }
    b->turn = engine.turn;
    b->span = span;
    return JS_DupValue(ctx, b->object);
}

// bytes_release keeps the handle for the next turn unless the script holds it.
static void bytes_release(JSContext *ctx, Bytes **slot) {
    Bytes *b = *slot;
    if (b && unit_ref_count(b->object) > 1) {
        JS_FreeValue(ctx, b->object);
        *slot = NULL;
    }
}

JSValue span_text(JSContext *ctx, Span span) { return JS_NewStringLen(ctx, (const char *)span.at, span.length); }

static JSValue span_json(JSContext *ctx, Span span) {
    // The parser wants a zero behind its text. Every span lies in memory of ours with room behind it.
    uint8_t *end = (uint8_t *)span.at + span.length, kept = *end;
    *end = 0;
    JSValue v = JS_ParseJSON(ctx, (const char *)span.at, span.length, "value");
    *end = kept;
    return v;
}

// --- search ---

// find returns the first place of needle (at least 1 byte), or -1. It compares first and last byte of 16 places at once; it reads
// up to 15 bytes behind the haystack, which INPUT_SLACK_BYTES and the blocks' slack allow.
static int32_t find(Span in, Span needle, int32_t from) {
    int32_t n = needle.length, last = in.length - n;
    v128_t first = wasm_i8x16_splat((int8_t)needle.at[0]), tail = wasm_i8x16_splat((int8_t)needle.at[n - 1]);
    for (int32_t i = from; i <= last; i += 16) {
        v128_t a = wasm_i8x16_eq(wasm_v128_load(in.at + i), first);
        v128_t b = wasm_i8x16_eq(wasm_v128_load(in.at + i + n - 1), tail);
        uint32_t mask = wasm_i8x16_bitmask(wasm_v128_and(a, b));
        for (; mask; mask &= mask - 1) {
            int32_t at = i + __builtin_ctz(mask);
            if (at <= last && memcmp(in.at + at, needle.at, n) == 0) return at;
        }
    }
    return -1;
}

// Needles are nearly always literals: their UTF-8 is kept for as long as the string is the same object.
enum { NEEDLES = 8 };
static struct {
    JSValue string;
    const char *text;
    size_t length;
} needles[NEEDLES];
static unsigned needle_next;

static int needle_of(JSContext *ctx, JSValueConst v, Piece *piece) {
    *piece = (Piece){.text = NULL};
    if (JS_VALUE_GET_TAG(v) != JS_TAG_STRING) return piece_of(ctx, v, piece, "what is searched");
    for (unsigned i = 0; i < NEEDLES; i++) {
        if (needles[i].text && JS_VALUE_GET_PTR(needles[i].string) == JS_VALUE_GET_PTR(v)) {
            piece->span = (Span){(const uint8_t *)needles[i].text, (int32_t)needles[i].length};
            return 0;
        }
    }
    size_t length;
    const char *text = JS_ToCStringLen(ctx, &length, v);
    if (!text) return -1;
    unsigned i = needle_next++ % NEEDLES;
    if (needles[i].text) {
        JS_FreeCString(ctx, needles[i].text);
        JS_FreeValue(ctx, needles[i].string);
    }
    needles[i].string = JS_DupValue(ctx, v);
    needles[i].text = text;
    needles[i].length = length;
    piece->span = (Span){(const uint8_t *)text, (int32_t)length};
    return 0;
}

enum { FIND_INCLUDES, FIND_INDEX, FIND_STARTS, FIND_ENDS, FIND_EQUALS };

static JSValue bytes_find(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv, int how) {
    Bytes *b = bytes_live(ctx, this);
    Piece needle;
    if (!b || needle_of(ctx, argc > 0 ? argv[0] : JS_UNDEFINED, &needle)) return JS_EXCEPTION;
    Span in = b->span, s = needle.span;
    JSValue result = JS_FALSE;
    if (s.length < 0) {
        result = how == FIND_INDEX ? JS_NewInt32(ctx, -1) : JS_FALSE; // null is nowhere
    } else if (how == FIND_INCLUDES || how == FIND_INDEX) {
        int32_t from = 0;
        if (argc > 1 && JS_ToInt32(ctx, &from, argv[1])) {
            piece_free(ctx, &needle);
            return JS_EXCEPTION;
        }
        from = from < 0 ? 0 : from > in.length ? in.length : from;
        int32_t at = s.length == 0 ? from : find(in, s, from);
        result = how == FIND_INDEX ? JS_NewInt32(ctx, at) : JS_NewBool(ctx, at >= 0);
    } else if (s.length <= in.length && (how != FIND_EQUALS || s.length == in.length)) {
        const uint8_t *at = how == FIND_ENDS ? in.at + in.length - s.length : in.at;
        result = JS_NewBool(ctx, memcmp(at, s.at, s.length) == 0);
    }
    piece_free(ctx, &needle);
    return result;
}

static JSValue bytes_text(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    Bytes *b = bytes_live(ctx, this);
    return b ? span_text(ctx, b->span) : JS_EXCEPTION;
}

static JSValue bytes_json(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    Bytes *b = bytes_live(ctx, this);
    return b ? span_json(ctx, b->span) : JS_EXCEPTION;
}

static JSValue bytes_copy(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    Bytes *b = bytes_live(ctx, this);
    return b ? JS_NewUint8ArrayCopy(ctx, b->span.at, b->span.length) : JS_EXCEPTION;
}

static JSValue bytes_at(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    Bytes *b = bytes_live(ctx, this);
    int32_t i;
    if (!b || JS_ToInt32(ctx, &i, argv[0])) return JS_EXCEPTION;
    if (i < 0) i += b->span.length;
    return i < 0 || i >= b->span.length ? JS_UNDEFINED : JS_NewInt32(ctx, b->span.at[i]);
}

static JSValue bytes_length(JSContext *ctx, JSValueConst this) {
    Bytes *b = bytes_live(ctx, this);
    return b ? JS_NewInt32(ctx, b->span.length) : JS_EXCEPTION;
}

static const JSCFunctionListEntry bytes_members[] = {
    JS_CFUNC_DEF("text", 0, bytes_text),
    JS_CFUNC_DEF("json", 0, bytes_json),
    JS_CFUNC_DEF("bytes", 0, bytes_copy),
    JS_CFUNC_DEF("toString", 0, bytes_text),
    JS_CFUNC_DEF("toJSON", 0, bytes_text),
    JS_CFUNC_DEF("at", 1, bytes_at),
    JS_CFUNC_MAGIC_DEF("includes", 1, bytes_find, FIND_INCLUDES),
    JS_CFUNC_MAGIC_DEF("indexOf", 1, bytes_find, FIND_INDEX),
    JS_CFUNC_MAGIC_DEF("startsWith", 1, bytes_find, FIND_STARTS),
    JS_CFUNC_MAGIC_DEF("endsWith", 1, bytes_find, FIND_ENDS),
    JS_CFUNC_MAGIC_DEF("equals", 1, bytes_find, FIND_EQUALS),
    JS_CGETSET_DEF("length", bytes_length, NULL),
    JS_PROP_STRING_DEF("[Symbol.toStringTag]", "Bytes", JS_PROP_CONFIGURABLE),
};

// --- Record ---

static void record_finalize(JSRuntime *rt, JSValueConst v) {
    Record *r = JS_GetOpaque(v, record_class);
    if (!r) return;
    if (r->key) JS_FreeValueRT(rt, r->key->object);
    if (r->value) JS_FreeValueRT(rt, r->value->object);
    JS_FreeValueRT(rt, r->headers);
    free(r);
}

static void record_mark(JSRuntime *rt, JSValueConst v, JS_MarkFunc *mark) {
    Record *r = JS_GetOpaque(v, record_class);
    if (!r) return;
    if (r->key) JS_MarkValue(rt, r->key->object, mark);
    if (r->value) JS_MarkValue(rt, r->value->object, mark);
    JS_MarkValue(rt, r->headers, mark);
}

Record *record_of(JSValueConst v) {
    Record *r = JS_GetOpaque(v, record_class);
    return r && r->turn == engine.turn ? r : NULL;
}

static Record *record_live(JSContext *ctx, JSValueConst v) {
    Record *r = JS_GetOpaque2(ctx, v, record_class);
    if (r && r->turn != engine.turn) {
        JS_ThrowTypeError(ctx, "a record is used after its turn: copy what you keep, like record.value.text()");
        return NULL;
    }
    return r;
}

JSValue record_handle(JSContext *ctx) {
    Record *r = engine.record;
    if (!r) {
        JSValue object = JS_NewObjectClass(ctx, record_class);
        if (JS_IsException(object)) return object;
        r = calloc(1, sizeof *r);
        if (!r) {
            JS_FreeValue(ctx, object);
            return JS_ThrowOutOfMemory(ctx);
        }
        r->object = object;
        r->headers = JS_UNDEFINED;
        JS_SetOpaque(object, r);
        JS_PreventExtensions(ctx, object);
        engine.record = r;
    }
    r->turn = engine.turn;
    return r->object;
}

void record_release(JSContext *ctx) {
    Record *r = engine.record;
    if (r) {
        if (r->key) bytes_release(ctx, &r->key);
        if (r->value) bytes_release(ctx, &r->value);
        r->key_set = r->value_set = false;
        if (!JS_IsUndefined(r->headers)) {
            JS_FreeValue(ctx, r->headers);
            r->headers = JS_UNDEFINED;
        }
        if (unit_ref_count(r->object) > 1) {
            engine.record = NULL;
            JS_FreeValue(ctx, r->object);
        }
    }
    while (engine.blocks) {
        Block *next = engine.blocks->next;
        free(engine.blocks);
        engine.blocks = next;
    }
    engine.turn++;
}

enum { FIELD_KEY, FIELD_VALUE };

static JSValue record_get_span(JSContext *ctx, JSValueConst this, int field) {
    Record *r = record_live(ctx, this);
    if (!r) return JS_EXCEPTION;
    if (field == FIELD_KEY) return bytes_handle(ctx, &r->key, r->key_set ? r->key_span : record_key(engine.fixed));
    return bytes_handle(ctx, &r->value, r->value_set ? r->value_span : record_value(engine.fixed));
}

// keep copies bytes to memory that lives to the end of the turn, with the slack that search and the JSON parser want.
static int keep(JSContext *ctx, Span *span) {
    if (span->length < 0) return 0;
    Block *b = malloc(sizeof *b + span->length + INPUT_SLACK_BYTES);
    if (!b) {
        JS_ThrowOutOfMemory(ctx);
        return -1;
    }
    memcpy(b->bytes, span->at, span->length);
    b->next = engine.blocks;
    engine.blocks = b;
    span->at = b->bytes;
    return 0;
}

static JSValue record_set_span(JSContext *ctx, JSValueConst this, JSValueConst v, int field) {
    Record *r = record_live(ctx, this);
    Piece piece;
    if (!r || piece_of(ctx, v, &piece, field == FIELD_KEY ? "record.key" : "record.value")) return JS_EXCEPTION;
    Span span = piece.span;
    int failed = keep(ctx, &span);
    piece_free(ctx, &piece);
    if (failed) return JS_EXCEPTION;
    // A handle that the script holds keeps the old bytes; it may not be moved to the new ones.
    bytes_release(ctx, field == FIELD_KEY ? &r->key : &r->value);
    if (field == FIELD_KEY) {
        r->key_set = true;
        r->key_span = span;
    } else {
        r->value_set = true;
        r->value_span = span;
    }
    return JS_UNDEFINED;
}

enum { FIELD_OFFSET, FIELD_TIMESTAMP, FIELD_PARTITION, FIELD_TOPIC };

static JSValue record_get_number(JSContext *ctx, JSValueConst this, int field) {
    if (!record_live(ctx, this)) return JS_EXCEPTION;
    switch (field) {
    case FIELD_OFFSET: return JS_NewInt64(ctx, (int64_t)read_u64(engine.fixed + 8));
    case FIELD_TIMESTAMP: return JS_NewInt64(ctx, (int64_t)read_u64(engine.fixed + 16));
    case FIELD_PARTITION: return JS_NewInt32(ctx, engine.partition);
    default: return host_input_name(ctx, engine.topic);
    }
}

// header_pairs returns the source's headers as [[name, Uint8Array | null], ...].
static JSValue header_pairs(JSContext *ctx) {
    JSValue list = JS_NewArray(ctx);
    if (JS_IsException(list)) return list;
    const uint8_t *p = record_headers(engine.fixed);
    for (uint32_t i = 0, n = read_u32(engine.fixed + 4); i < n; i++) {
        Span name = {p + HEADER_FIXED_BYTES, read_i32(p)};
        Span value = {name.at + name.length, read_i32(p + 4)};
        JSValue pair = JS_NewArray(ctx);
        if (JS_IsException(pair) || JS_SetPropertyUint32(ctx, pair, 0, span_text(ctx, name)) < 0 ||
            JS_SetPropertyUint32(ctx, pair, 1, value.length < 0 ? JS_NULL : JS_NewUint8ArrayCopy(ctx, value.at, value.length)) < 0 ||
            JS_SetPropertyUint32(ctx, list, i, pair) < 0) {
            JS_FreeValue(ctx, list);
            return JS_EXCEPTION;
        }
        p = value.at + (value.length > 0 ? value.length : 0);
    }
    return list;
}

static JSValue record_get_headers(JSContext *ctx, JSValueConst this) {
    Record *r = record_live(ctx, this);
    if (!r) return JS_EXCEPTION;
    if (JS_IsUndefined(r->headers)) {
        JSValue pairs = header_pairs(ctx);
        if (JS_IsException(pairs)) return pairs;
        JSValue headers = JS_Call(ctx, engine.headers_of_record, JS_UNDEFINED, 1, &pairs);
        JS_FreeValue(ctx, pairs);
        if (JS_IsException(headers)) return headers;
        r->headers = headers;
    }
    return JS_DupValue(ctx, r->headers);
}

static JSValue record_text(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv, int json) {
    Record *r = record_live(ctx, this);
    if (!r) return JS_EXCEPTION;
    Span span = r->value_set ? r->value_span : record_value(engine.fixed);
    if (span.length < 0) return JS_NULL;
    return json ? span_json(ctx, span) : span_text(ctx, span);
}

static const JSCFunctionListEntry record_members[] = {
    JS_CGETSET_MAGIC_DEF("key", record_get_span, record_set_span, FIELD_KEY),
    JS_CGETSET_MAGIC_DEF("value", record_get_span, record_set_span, FIELD_VALUE),
    JS_CGETSET_DEF("headers", record_get_headers, NULL),
    JS_CGETSET_MAGIC_DEF("offset", record_get_number, NULL, FIELD_OFFSET),
    JS_CGETSET_MAGIC_DEF("timestamp", record_get_number, NULL, FIELD_TIMESTAMP),
    JS_CGETSET_MAGIC_DEF("partition", record_get_number, NULL, FIELD_PARTITION),
    JS_CGETSET_MAGIC_DEF("topic", record_get_number, NULL, FIELD_TOPIC),
    JS_CFUNC_MAGIC_DEF("text", 0, record_text, 0),
    JS_CFUNC_MAGIC_DEF("json", 0, record_text, 1),
    JS_PROP_STRING_DEF("[Symbol.toStringTag]", "Record", JS_PROP_CONFIGURABLE),
};

static int class_init(JSContext *ctx, JSClassID *id, const JSClassDef *def, const JSCFunctionListEntry *members, int count) {
    JS_NewClassID(JS_GetRuntime(ctx), id);
    if (JS_NewClass(JS_GetRuntime(ctx), *id, def)) return -1;
    JSValue proto = JS_NewObject(ctx);
    if (JS_IsException(proto)) return -1;
    if (JS_SetPropertyFunctionList(ctx, proto, members, count)) return -1;
    JS_SetClassProto(ctx, *id, proto);
    return 0;
}

int record_init(JSContext *ctx) {
    static const JSClassDef record_def = {.class_name = "Record", .finalizer = record_finalize, .gc_mark = record_mark};
    static const JSClassDef bytes_def = {.class_name = "Bytes", .finalizer = bytes_finalize};
    return class_init(ctx, &record_class, &record_def, record_members, sizeof record_members / sizeof record_members[0]) ||
           class_init(ctx, &bytes_class, &bytes_def, bytes_members, sizeof bytes_members / sizeof bytes_members[0]);
}
