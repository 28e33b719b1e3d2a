// QuickJS-ng as one unit, plus the three things that its public header does not offer.
//
// A record's handle is used again for the next record when the script kept no reference, which needs the reference count; and on
// WASI the library sets no stack limit, which would turn deep recursion into a trap instead of a RangeError.
// And JSON is printed without a list of keys and a string per value.
#include "quickjs.c"

#include "engine.h"

int unit_ref_count(JSValueConst object) { return js_rc(JS_VALUE_GET_PTR(object))->ref_count; }

void unit_stack_limit(JSRuntime *rt, uint32_t address) { rt->stack_limit = address; }

#include "json_print.c"
