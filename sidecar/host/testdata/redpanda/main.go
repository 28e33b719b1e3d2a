// Command redpanda-guest is an unmodified use of Redpanda's Go SDK: what it does
// to a record depends on the record's key.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redpanda-data/redpanda/src/transform-sdk/go/transform"
)

func main() {
	transform.OnRecordWritten(func(e transform.WriteEvent, w transform.RecordWriter) error {
		r := e.Record()
		switch {
		case bytes.Equal(r.Key, []byte("drop")):
			return nil
		case bytes.Equal(r.Key, []byte("fail")):
			return errors.New("told to fail")
		case bytes.Equal(r.Key, []byte("loop")):
			for n := uint64(0); ; n++ {
				if n == 1<<63 {
					return nil
				}
			}
		case bytes.Equal(r.Key, []byte("other")):
			return w.Write(r, transform.ToTopic("second"))
		case bytes.Equal(r.Key, []byte("nowhere")):
			if err := w.Write(r, transform.ToTopic("undeclared")); err == nil {
				return errors.New("an undeclared topic was taken")
			}
			return nil
		case bytes.Equal(r.Key, []byte("env")):
			r.Value = []byte(os.Getenv("REDPANDA_INPUT_TOPIC") + "," + os.Getenv("REDPANDA_OUTPUT_TOPIC_1") + "," + os.Getenv("COLOUR"))
		case bytes.Equal(r.Key, []byte("time")):
			r.Value = []byte(fmt.Sprint(time.Now().UnixMilli(), " ", r.Timestamp.UnixMilli(), " ", r.Offset))
		case bytes.Equal(r.Key, []byte("log")):
			fmt.Println("hello from the guest")
		case bytes.Equal(r.Key, []byte("twice")):
			if err := w.Write(r); err != nil {
				return err
			}
		}
		return w.Write(r)
	})
}
