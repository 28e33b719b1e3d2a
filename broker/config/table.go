package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// tables are the rows by scope, sorted by name, and by name.
type tables struct {
	rows   map[Scope][]*Row
	byName map[Scope]map[string]*Row
}

// table builds the rows at their first use.
var table = sync.OnceValue(build)

func build() *tables {
	t := &tables{rows: map[Scope][]*Row{}, byName: map[Scope]map[string]*Row{}}
	t.add(ScopeTopic, topicRows())
	t.add(ScopeCluster, append(clusterRows(), clusterDefaults(topicRows())...))
	t.add(ScopeNode, nodeRows())
	return t
}

func (t *tables) add(scope Scope, rows []Row) {
	t.byName[scope] = map[string]*Row{}
	for i := range rows {
		r := &rows[i]
		r.Scope = scope
		r.Secret = r.Secret || r.Kind == KindPassword
		_, twice := t.byName[scope][r.Name]
		must(!twice, "row %s is declared twice", r.Name)
		must(r.Doc != "" && r.Kind != 0, "row %s has no doc or no kind", r.Name)
		for side, text := range []string{r.Min, r.Max} {
			if text == "" {
				continue
			}
			v, err := r.read(text)
			must(err == nil, "row %s: limit: %v", r.Name, err)
			limit := v.f
			if r.Kind != KindDouble {
				limit = float64(v.n)
			}
			r.limited[side] = true
			*[]*float64{&r.min, &r.max}[side] = limit
		}
		_, err := r.parse(r.Default)
		must(err == nil, "row %s: default: %v", r.Name, err)
		t.byName[scope][r.Name] = r
		t.rows[scope] = append(t.rows[scope], r)
	}
	slices.SortFunc(t.rows[scope], func(a, b *Row) int { return strings.Compare(a.Name, b.Name) })
}

// clusterDefaults makes the cluster rows that topic rows fall back to.
func clusterDefaults(topic []Row) (rows []Row) {
	for _, r := range topic {
		if r.Cluster == "" {
			continue
		}
		name := r.Name
		r.Name, r.Cluster, r.topic = r.Cluster, "", nil
		r.Doc = "Of topics that do not set " + name + ". " + r.Doc
		rows = append(rows, r)
	}
	return rows
}

// Rows gives the rows of a scope, sorted by name. Not to be written.
func Rows(scope Scope) []*Row { return table().rows[scope] }

// Lookup finds a row. The error wraps ErrUnknown and suggests a near name.
func Lookup(scope Scope, name string) (*Row, error) {
	if r, ok := table().byName[scope][name]; ok {
		return r, nil
	}
	return nil, fmt.Errorf("%w %q of %s scope%s", ErrUnknown, name, scope, hint(name, scope))
}

// hint gives "; did you mean X?" or "".
func hint(name string, scopes ...Scope) string {
	best, least := "", len(name)/3+1
	for _, scope := range scopes {
		for _, r := range Rows(scope) {
			if d := distance(name, r.Name); d < least {
				best, least = r.Name, d
			}
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + strconv.Quote(best) + "?"
}

// nameBytesMax bounds what distance compares: it is quadratic.
const nameBytesMax = 128

// distance counts the insertions, deletions and changes from a to b.
func distance(a, b string) int {
	if len(a) > nameBytesMax {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func must(holds bool, format string, args ...any) {
	if !holds {
		panic("config: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
