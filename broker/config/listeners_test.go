package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestListeners(t *testing.T) {
	for kafka, c := range map[string]struct{ advertise, want string }{
		"off":                          {"", "[] []"},
		"[::1]:0":                      {"", "[[::1]:0] []"},
		"0.0.0.0:9092":                 {"10.0.0.5:9092", "[0.0.0.0:9092] [10.0.0.5:9092]"},
		"in://h:1,out_2://:2":          {"out_2://x.example:9", "[in://h:1 out_2://:2] [out_2://x.example:9]"},
		" in://h:1 , h:2 , OUT://h:0 ": {"h:7,OUT://:9", "[in://h:1 h:2 OUT://h:0] [h:7 OUT://:9]"},
	} {
		n, err := Load(Sources{Flags: map[string]string{"kafka-addr": kafka, "advertise-kafka-addr": c.advertise}})
		if got := fmt.Sprint(n.Kafka, n.AdvertiseKafka); err != nil || got != c.want {
			t.Errorf("%q: %v %v, want %s", kafka, got, err, c.want)
		}
	}
	n, err := Load(Sources{File: write(t, "kafka_addr: [in://h:1, out://h:2]\nadvertise_kafka_addr: [out://x:3]\n")})
	if err != nil || n.Advertised("out") != (Address{Host: "x", Port: 3}) || n.Advertised("in") != (Address{}) {
		t.Errorf("file: %v %v %v", n.Kafka, n.AdvertiseKafka, err)
	}
}

func TestListenersRefused(t *testing.T) {
	many := strings.Repeat("x", 64)
	for kafka, c := range map[string]struct{ advertise, want string }{
		"":                            {"", "HOST:PORT"},
		"h:1,":                        {"", "HOST:PORT"},
		"h:1,off":                     {"", "HOST:PORT"},
		"in://off":                    {"", "HOST:PORT"},
		"in://h":                      {"", "HOST:PORT"},
		"in://h:70000":                {"", "0 to 65535"},
		"h:1,h:2":                     {"", "at most one"},
		"in://h:1,in://h:2":           {"", "in is given twice"},
		"://h:1":                      {"", "letters, digits and underscores"},
		"a-b://h:1":                   {"", "letters, digits and underscores"},
		many + "x://h:1":              {"", "1 to 64"},
		"h:0" + names(16):             {"", "17 listeners are given, the most is 16"},
		"off":                         {"h:1", "kafka_addr is off"},
		"in://h:1":                    {"h:1", "no listener of that name"},
		"h:1," + many + "://h:2":      {"Out://h:1", "no listener of that name"},
		"in://h:1,out://h:2,third:80": {"in://h:1,in://h:2", "twice"},
	} {
		_, err := Load(Sources{Flags: map[string]string{"kafka-addr": kafka, "advertise-kafka-addr": c.advertise}})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", kafka, err, c.want)
		}
	}
}

func names(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ",l%d://h:0", i)
	}
	return b.String()
}
