// The input frame's checks and the output buffer.
#include "engine.h"

#include <stdlib.h>
#include <string.h>

static const char *check_headers(const uint8_t *p, uint32_t left, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (left < HEADER_FIXED_BYTES) return "input frame: more headers than room";
        int32_t key = read_i32(p), value = read_i32(p + 4);
        if (key < 0 || value < -1) return "input frame: bad header length";
        uint64_t size = HEADER_FIXED_BYTES + (uint64_t)key + (value > 0 ? (uint64_t)value : 0);
        if (size > left) return "input frame: header beyond its record";
        p += size;
        left -= (uint32_t)size;
    }
    return left < 8 ? NULL : "input frame: bytes left over in a record";
}

static const char *check_record(const uint8_t *p, uint32_t left, uint32_t *size) {
    if (left < RECORD_FIXED_BYTES) return "input frame: record shorter than its fixed part";
    *size = read_u32(p);
    if (*size % 8 != 0 || *size < RECORD_FIXED_BYTES || *size > left) return "input frame: bad record size";
    int64_t room = (int64_t)*size - RECORD_FIXED_BYTES, key = read_i32(p + 24), value = read_i32(p + 28);
    if (key < -1 || value < -1) return "input frame: bad length";
    room -= (key > 0 ? key : 0) + (value > 0 ? value : 0);
    if (room < 0) return "input frame: key or value beyond its record";
    uint32_t headers = read_u32(p + 4);
    if (headers == 0) return room < 8 ? NULL : "input frame: bytes left over in a record";
    return check_headers(p + *size - room, (uint32_t)room, headers);
}

// frame_check returns NULL when every record of the frame may be read without a further check.
const char *frame_check(const uint8_t *frame, uint32_t length) {
    if (length < INPUT_HEADER_BYTES) return "input frame: shorter than its header";
    if (read_u32(frame) != INPUT_MAGIC) return "input frame: bad magic";
    if (read_u16(frame + 4) != 1) return "input frame: another ABI version";
    if (read_u32(frame + 32) != length) return "input frame: size does not match its length";
    if (read_u32(frame + 36) != 0) return "input frame: reserved field is not zero";
    uint32_t left = length - INPUT_HEADER_BYTES;
    const uint8_t *p = frame + INPUT_HEADER_BYTES;
    for (uint32_t i = read_u32(frame + 12); i > 0; i--) {
        uint32_t size;
        const char *error = check_record(p, left, &size);
        if (error) return error;
        p += size;
        left -= size;
    }
    return left == 0 ? NULL : "input frame: bytes after the last record";
}

uint8_t *output_grow(size_t bytes) {
    size_t size = engine.output_size + bytes;
    if (size > engine.output_capacity) {
        size_t capacity = engine.output_capacity ? engine.output_capacity : 64 << 10;
        while (capacity < size) capacity += capacity / 2;
        uint8_t *grown = realloc(engine.output, capacity);
        if (!grown) return NULL;
        engine.output = grown;
        engine.output_capacity = capacity;
    }
    uint8_t *at = engine.output + engine.output_size;
    engine.output_size = size;
    return at;
}

bool output_begin(void) {
    engine.output_size = 0;
    engine.entries = 0;
    return output_grow(OUTPUT_HEADER_BYTES) != NULL;
}

// output_finish returns the length of the frame, 0 when it holds nothing.
uint32_t output_finish(void) {
    if (engine.entries == 0) return 0;
    uint8_t *p = engine.output;
    write_u32(p, OUTPUT_MAGIC);
    write_u32(p + 4, 1);
    write_u32(p + 8, (uint32_t)engine.output_size);
    write_u32(p + 12, engine.entries);
    return (uint32_t)engine.output_size;
}

bool output_pass(uint16_t output, int32_t partition) {
    uint8_t *p = output_grow(ENTRY_PASS_BYTES);
    if (!p) return false;
    write_u32(p, ENTRY_PASS_BYTES);
    write_u32(p + 4, engine.source);
    write_u16(p + 8, output);
    write_u16(p + 10, FLAG_PASS);
    write_u32(p + 12, (uint32_t)partition);
    engine.entries++;
    return true;
}
