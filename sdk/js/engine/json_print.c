// JSON of plain data, straight to UTF-8; a part of quickjs_unit.c, for it reads the library's objects.
//
// What a script returns is nearly always plain data: objects, arrays, text, numbers. Its JSON is printed here in one pass, where
// JS_JSONStringify makes a list of keys and a string per key and value. The text is the same, byte by byte. Nothing of the script
// runs meanwhile, so that whatever is not plain (a getter, toJSON, a proxy, an index as a key, a cycle) is simply left to
// JS_JSONStringify from the start.

enum {
    PRINT_DEPTH_MAX = 64,         // deeper is left to the library, which finds cycles
    PRINT_BYTES_MAX = 64 << 20,   // as much as a batch's output
    PRINT_KEPT_BYTES = 1 << 20,   // one huge value must not pin its size
    PRINT_NUMBER_BYTES_MAX = 128, // as the library has it
};

typedef struct {
    JSContext *ctx;
    uint8_t *bytes;
    size_t size, capacity;
} Printer;

// One text lives at a time: print_busy until unit_json_free.
static Printer printer;
static bool print_busy;

// print_room gives room for n bytes behind the text, or NULL.
static uint8_t *print_room(Printer *t, size_t n) {
    if (t->capacity - t->size < n) {
        size_t want = t->size + n;
        if (want > PRINT_BYTES_MAX) return NULL;
        want += want / 2 + 1024;
        uint8_t *grown = realloc(t->bytes, want);
        if (!grown) return NULL;
        t->bytes = grown;
        t->capacity = want;
    }
    return t->bytes + t->size;
}

static bool print_bytes(Printer *t, const void *bytes, size_t n) {
    uint8_t *to = print_room(t, n);
    if (!to) return false;
    memcpy(to, bytes, n);
    t->size += n;
    return true;
}

static bool print_byte(Printer *t, uint8_t c) { return print_bytes(t, &c, 1); }

// plain_run counts the bytes that stand for themselves: ASCII, neither control, quote nor backslash.
static size_t plain_run(const uint8_t *p, size_t n) {
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t w, quote, slash;
        memcpy(&w, p + i, 8);
        quote = w ^ ones * '"';
        slash = w ^ ones * '\\';
        if ((w | (w - ones * 0x20) | (quote - ones) | (slash - ones)) & tops) break;
    }
    while (i < n && p[i] >= 0x20 && p[i] < 0x80 && p[i] != '"' && p[i] != '\\') i++;
    return i;
}

// print_char prints one code point that is not plain.
static bool print_char(Printer *t, uint32_t c) {
    uint8_t b[8];
    int n = 2;
    b[0] = '\\';
    switch (c) {
    case '\t': b[1] = 't'; break;
    case '\r': b[1] = 'r'; break;
    case '\n': b[1] = 'n'; break;
    case '\b': b[1] = 'b'; break;
    case '\f': b[1] = 'f'; break;
    case '"':
    case '\\': b[1] = c; break;
    default:
        if (c < 32 || is_surrogate(c)) n = snprintf((char *)b, sizeof b, "\\u%04x", (unsigned)c);
        else n = utf8_encode(b, c);
    }
    return print_bytes(t, b, n);
}

static bool print_string(Printer *t, JSString *s) {
    if (!print_byte(t, '"')) return false;
    if (s->is_wide_char) {
        for (int i = 0; i < s->len;) {
            uint32_t c = string_getc(s, &i);
            bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
            if (!(plain ? print_byte(t, c) : print_char(t, c))) return false;
        }
        return print_byte(t, '"');
    }
    const uint8_t *p = str8(s), *end = p + s->len;
    while (p < end) {
        size_t n = plain_run(p, end - p);
        if (!print_bytes(t, p, n)) return false;
        if ((p += n) == end) break;
        if (!print_char(t, *p++)) return false;
    }
    return print_byte(t, '"');
}

static bool print_number(Printer *t, double d) {
    if (!isfinite(d)) return print_bytes(t, "null", 4);
    JSDTOATempMem temporary;
    if (js_dtoa_max_len(d, 10, 0, JS_DTOA_FORMAT_FREE) >= PRINT_NUMBER_BYTES_MAX) return false;
    uint8_t *to = print_room(t, PRINT_NUMBER_BYTES_MAX);
    if (!to) return false;
    t->size += js_dtoa((char *)to, d, 10, 0, JS_DTOA_FORMAT_FREE, &temporary);
    return true;
}

static bool print_value(Printer *t, JSValueConst v, int depth);

// plain_proto tells that objects of this prototype have no toJSON by it.
static bool plain_proto(JSContext *ctx, JSObject *proto, int class_id) {
    for (; proto; proto = proto->shape->proto) {
        JSObject *known = JS_VALUE_GET_OBJ(ctx->class_proto[class_id]), *root = JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_OBJECT]);
        if ((proto != known && proto != root) || find_own_property1(proto, JS_ATOM_toJSON)) return false;
    }
    return true;
}

static bool print_array(Printer *t, JSObject *p, int depth) {
    // The only property is the length, and there are no holes.
    if (!p->fast_array || p->shape->prop_count != 1 || JS_VALUE_GET_TAG(p->prop[0].u.value) != JS_TAG_INT ||
        (uint32_t)JS_VALUE_GET_INT(p->prop[0].u.value) != p->u.array.count || !plain_proto(t->ctx, p->shape->proto, JS_CLASS_ARRAY))
        return false;
    if (!print_byte(t, '[')) return false;
    for (uint32_t i = 0; i < p->u.array.count; i++) {
        JSValueConst v = p->u.array.u.values[i];
        if (i && !print_byte(t, ',')) return false;
        if (!(JS_IsUndefined(v) ? print_bytes(t, "null", 4) : print_value(t, v, depth))) return false;
    }
    return print_byte(t, ']');
}

// plain_key gives a property's name; NULL for those whose order or meaning is the library's to know.
static JSString *plain_key(JSContext *ctx, JSAtom atom) {
    if (__JS_AtomIsTaggedInt(atom) || atom == JS_ATOM_toJSON) return NULL;
    JSString *s = ctx->rt->atom_array[atom];
    if (s->atom_type != JS_ATOM_TYPE_STRING) return NULL;
    if (s->len > 0) { // a number above 2^31 may be an index, which comes first
        uint32_t c = s->is_wide_char ? str16(s)[0] : str8(s)[0];
        if (c >= '0' && c <= '9') return NULL;
    }
    return s;
}

static bool print_object(Printer *t, JSObject *p, int depth) {
    JSShapeProperty *property = get_shape_prop(p->shape);
    bool first = true;
    if (!plain_proto(t->ctx, p->shape->proto, JS_CLASS_OBJECT) || !print_byte(t, '{')) return false;
    for (int i = 0; i < p->shape->prop_count; i++, property++) {
        if (property->atom == JS_ATOM_NULL) continue; // deleted
        JSString *key = plain_key(t->ctx, property->atom);
        if (!key || (property->flags & JS_PROP_TMASK) != JS_PROP_NORMAL || !(property->flags & JS_PROP_ENUMERABLE)) return false;
        JSValueConst v = p->prop[i].u.value;
        if (JS_IsUndefined(v)) continue;
        if (!first && !print_byte(t, ',')) return false;
        first = false;
        if (!print_string(t, key) || !print_byte(t, ':') || !print_value(t, v, depth)) return false;
    }
    return print_byte(t, '}');
}

// print_value prints v; false if it is not plain, or there is no memory.
static bool print_value(Printer *t, JSValueConst v, int depth) {
    switch (JS_VALUE_GET_NORM_TAG(v)) {
    case JS_TAG_STRING: return print_string(t, JS_VALUE_GET_STRING(v));
    case JS_TAG_INT: return print_number(t, JS_VALUE_GET_INT(v));
    case JS_TAG_FLOAT64: return print_number(t, JS_VALUE_GET_FLOAT64(v));
    case JS_TAG_BOOL: return JS_VALUE_GET_BOOL(v) ? print_bytes(t, "true", 4) : print_bytes(t, "false", 5);
    case JS_TAG_NULL: return print_bytes(t, "null", 4);
    case JS_TAG_OBJECT: break;
    default: return false;
    }
    JSObject *p = JS_VALUE_GET_OBJ(v);
    if (depth == PRINT_DEPTH_MAX || js_check_stack_overflow(t->ctx->rt, 0)) return false;
    if (p->class_id == JS_CLASS_ARRAY) return print_array(t, p, depth + 1);
    return p->class_id == JS_CLASS_OBJECT && !p->is_exotic && print_object(t, p, depth + 1);
}

// unit_json prints an object's JSON; NULL when JS_JSONStringify has to do it. The text is good until unit_json_free.
const uint8_t *unit_json(JSContext *ctx, JSValueConst v, size_t *size) {
    if (print_busy) return NULL;
    printer.ctx = ctx;
    printer.size = 0;
    bool printed = print_value(&printer, v, 0);
    *size = printer.size;
    print_busy = true;
    if (printed) return printer.bytes;
    unit_json_free();
    return NULL;
}

void unit_json_free(void) {
    print_busy = false;
    if (printer.capacity <= PRINT_KEPT_BYTES) return;
    free(printer.bytes);
    printer = (Printer){0};
}
