package manifest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What Check refuses of a whole manifest. The texts say what to do.
var (
	ErrNoName   = errors.New("the script has no name: add `name: NAME` to transform.yaml, or give --name NAME")
	ErrNoInputs = errors.New("the script has no input: add `inputs: [TOPIC]` to transform.yaml, or give --input TOPIC")
	// ErrMode: a key that has no meaning in the script's mode.
	ErrMode = errors.New("has no meaning in this mode")
	// ErrCycle: an output is an input too.
	ErrCycle = errors.New("is an input and an output of the same script")
)

// Check judges the whole manifest, after flags have overridden fields. It tells all that is wrong at once.
func (m *Manifest) Check() error {
	wrong := []error{m.checkNames(), m.checkMode(), m.checkTopology(), m.checkEnv(), m.checkOptions()}
	return errors.Join(wrong...)
}

// where puts the key's line, if the file has it, before an error.
func (m *Manifest) where(key string, err error) error {
	if err == nil {
		return nil
	}
	if line, ok := m.source.lines[key]; ok {
		return fmt.Errorf("%s:%d: %s: %w", m.source.file, line, key, err)
	}
	return fmt.Errorf("%s: %w", key, err)
}

func (m *Manifest) checkNames() error {
	if m.Name == "" {
		return ErrNoName
	}
	return errors.Join(m.where("name", CheckName(m.Name)), m.where("description", checkDescription(m.Description)))
}

// checkMode refuses what would be ignored: a policy that is written down and does nothing is worse than an error.
func (m *Manifest) checkMode() error {
	var wrong []error
	refuse := func(keys ...string) {
		for _, key := range keys {
			if _, written := m.source.lines[key]; written {
				wrong = append(wrong, m.where(key, fmt.Errorf("%w (%s)", ErrMode, m.Mode)))
			}
		}
	}
	switch m.Mode {
	case Sync:
		refuse("start", "on_error", "partitioning", "compression")
		if len(m.Outputs) > 0 {
			wrong = append(wrong, m.where("outputs", fmt.Errorf("%w (%s): it writes to the topic it reads", ErrMode, m.Mode)))
		}
	case Async:
		refuse("sync")
	default:
		wrong = append(wrong, m.where("mode", fmt.Errorf("must be %q or %q, not %q", Async, Sync, m.Mode)))
	}
	return errors.Join(wrong...)
}

func (m *Manifest) checkTopology() error {
	if len(m.Inputs) == 0 {
		return ErrNoInputs
	}
	wrong := []error{m.where("inputs", checkTopics(m.Inputs)), m.where("outputs", checkTopics(m.Outputs))}
	for _, output := range m.Outputs {
		if slices.Contains(m.Inputs, output) {
			wrong = append(wrong, m.where("outputs", fmt.Errorf("%q %w", output, ErrCycle)))
		}
	}
	for _, input := range m.Inputs {
		for _, output := range m.OutputsOf(input) {
			if err := CheckTopic(output + ".dlq"); err != nil {
				wrong = append(wrong, fmt.Errorf("with its .dlq, %w", err))
			}
		}
	}
	return errors.Join(wrong...)
}

func (m *Manifest) checkEnv() error {
	bytes := 0
	var wrong []error
	for name, value := range m.Env {
		bytes += len(name) + len(value)
		if err := checkVariable(name, value); err != nil {
			wrong = append(wrong, err)
		}
	}
	if len(m.Env) > envMax || bytes > envBytesMax {
		wrong = append(wrong, fmt.Errorf("%d variables of %d bytes, the limits are %d and %d", len(m.Env), bytes, envMax, envBytesMax))
	}
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return m.where("env", errors.Join(wrong...))
}

func (m *Manifest) checkOptions() error {
	wrong := []error{
		m.where("start", m.Start.check()),
		m.where("sync.budget", checkDuration(m.Sync.Budget, budgetMin, budgetMax)),
		m.where("limits.memory", checkMemory(m.Limits.Memory)),
		m.where("limits.batch_time", checkDuration(m.Limits.BatchTime, batchTimeMin, batchTimeMax)),
		m.where("on_error.then", among(m.OnError.Then, Skip, DLQ, Stop)),
		m.where("sync.policy", among(m.Sync.Policy, Fail, Pass)),
		m.where("partitioning", among(m.Partitioning, Same, ByKey)),
		m.where("compression", among(m.Compression, compressions...)),
		m.where("language", among(m.Language, "", JavaScript, Go)),
	}
	if m.OnError.Retry < 0 || m.OnError.Retry > retryMax {
		wrong = append(wrong, m.where("on_error.retry", fmt.Errorf("must be a number from 0 to %d", retryMax)))
	}
	return errors.Join(wrong...)
}

func among[V ~string](v V, allowed ...V) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	return fmt.Errorf("must be one of %q, not %q", allowed, v)
}

var nameText = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

// CheckName judges a script's name: it becomes part of topics' names.
func CheckName(name string) error {
	switch {
	case name == "":
		return ErrNoName
	case len(name) > nameBytesMax:
		return fmt.Errorf("a name of %d bytes, at most %d", len(name), nameBytesMax)
	case !nameText.MatchString(name) || name == "." || name == "..":
		return fmt.Errorf("%q: a name has letters, digits, '.', '_' and '-' only", name)
	case strings.HasPrefix(name, "__"):
		return fmt.Errorf("%q: names that begin with \"__\" are internal", name)
	}
	return nil
}

// CheckTopic judges a topic's name by Kafka's rules.
func CheckTopic(name string) error {
	if len(name) > topicBytesMax || !nameText.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("%q is not a topic's name: 1 to %d letters, digits, '.', '_' and '-'", name, topicBytesMax)
	}
	return nil
}

func checkTopics(list []string) error {
	if len(list) > topicsMax {
		return fmt.Errorf("%d topics, at most %d", len(list), topicsMax)
	}
	for i, name := range list {
		if err := CheckTopic(name); err != nil {
			return err
		}
		if slices.Contains(list[:i], name) {
			return fmt.Errorf("%q stands twice", name)
		}
	}
	return nil
}

func checkDescription(text string) error {
	if len(text) > textBytesMax {
		return fmt.Errorf("a text of %d bytes, at most %d", len(text), textBytesMax)
	}
	return nil
}

// reserved are the names that the host sets itself.
var reserved = []string{"MILLRACE_", "REDPANDA_INPUT_TOPIC", "REDPANDA_OUTPUT_TOPIC_"}

func checkVariable(name, value string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
		return fmt.Errorf("%q is not a variable's name, or its value holds a zero byte", name)
	}
	for _, prefix := range reserved {
		if strings.HasPrefix(name, prefix) {
			return fmt.Errorf("%s: names that begin with %s are the broker's", name, prefix)
		}
	}
	return nil
}

func checkMemory(bytes int64) error {
	if bytes < memoryMin || bytes > memoryMax {
		return fmt.Errorf("%d bytes, must be between %d and %d MiB", bytes, memoryMin>>20, memoryMax>>20)
	}
	return nil
}

func checkDuration(d, low, high time.Duration) error {
	if d < low || d > high {
		return fmt.Errorf("%v, must be between %v and %v", d, low, high)
	}
	return nil
}
