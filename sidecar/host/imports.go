package host

// importID is what the glue hands back when a guest calls an import. Zero never
// reaches Go: the glue answers ENOSYS.
type importID uintptr

const (
	importNosys importID = iota
	importLog
	importArgsGet
	importArgsSizes
	importEnvironGet
	importEnvironSizes
	importClockRes
	importClockTime
	importRandom
	importFdWrite
	importYield
	importPoll
	importExit
	importBadFd
	importReadHeader
	importReadRecord
	importWriteRecord
	importWriteOptions
	importNothing  // returns nothing, does nothing
	importDisabled // answers -1
)

// The modules that guests may import from.
const (
	moduleMillrace = "millrace"
	moduleWASI     = "wasi_snapshot_preview1"
	moduleRedpanda = "redpanda_transform"
	moduleRegistry = "redpanda_schema_registry"
)

// importSpec is an import that we supply. Types: i = i32, I = i64.
type importSpec struct {
	id      importID
	params  string
	results string
}

// importTable holds all imports but the rest of WASI, which is importNosys.
var importTable = map[string]map[string]importSpec{
	moduleMillrace: {
		"log": {importLog, "iii", ""},
	},
	moduleWASI: {
		"args_get":            {importArgsGet, "ii", "i"},
		"args_sizes_get":      {importArgsSizes, "ii", "i"},
		"environ_get":         {importEnvironGet, "ii", "i"},
		"environ_sizes_get":   {importEnvironSizes, "ii", "i"},
		"clock_res_get":       {importClockRes, "ii", "i"},
		"clock_time_get":      {importClockTime, "iIi", "i"},
		"random_get":          {importRandom, "ii", "i"},
		"fd_write":            {importFdWrite, "iiii", "i"},
		"sched_yield":         {importYield, "", "i"},
		"poll_oneoff":         {importPoll, "iiii", "i"},
		"proc_exit":           {importExit, "i", ""},
		"fd_prestat_get":      {importBadFd, "ii", "i"},
		"fd_prestat_dir_name": {importBadFd, "iii", "i"},
	},
	moduleRedpanda: {
		"check_abi_version_1":       {importNothing, "", ""},
		"check_abi_version_2":       {importNothing, "", ""},
		"read_batch_header":         {importReadHeader, "iiiiiiiiii", "i"},
		"read_next_record":          {importReadRecord, "iiiii", "i"},
		"write_record":              {importWriteRecord, "ii", "i"},
		"write_record_with_options": {importWriteOptions, "iiii", "i"},
	},
	moduleRegistry: {
		"check_abi_version_0":       {importNothing, "", ""},
		"get_schema_definition_len": {importDisabled, "ii", "i"},
		"get_schema_definition":     {importDisabled, "iii", "i"},
		"get_subject_schema_len":    {importDisabled, "iiii", "i"},
		"get_subject_schema":        {importDisabled, "iiiii", "i"},
		"create_subject_schema":     {importDisabled, "iiiii", "i"},
	},
}

// specOf finds what is supplied for an import, or refuses it by name.
func specOf(module, name, params, results string) (importSpec, error) {
	names, ok := importTable[module]
	if !ok {
		return importSpec{}, refuse("it imports %q from %q; a transform may import only from %s, %s and %s",
			name, module, moduleMillrace, moduleWASI, moduleRedpanda)
	}
	spec, ok := names[name]
	if !ok && module == moduleWASI && results == "i" {
		return importSpec{importNosys, params, results}, nil
	}
	if !ok {
		return importSpec{}, refuse("it imports %q from %q, which has no such function", name, module)
	}
	if spec.params != params || spec.results != results {
		return importSpec{}, refuse("it imports %s.%s as (%s)->(%s), it is (%s)->(%s) (i = i32, I = i64)",
			module, name, params, results, spec.params, spec.results)
	}
	return spec, nil
}
