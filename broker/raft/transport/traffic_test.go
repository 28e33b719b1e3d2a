package transport

import (
	"testing"
	"testing/synctest"
)

// TestTraffic: what one end counts as sent the other counts as received, and what could
// not be sent is lost.
func TestTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		c := d.connect(t)
		for _, word := range []string{"one", "two"} {
			if err := c.SendMessageBatch(text(word)); err != nil {
				t.Fatal(err)
			}
			<-d.messages
		}
		sleep(10 * pingInterval)
		synctest.Wait()
		a, b := d.a.Traffic.Peers(), d.b.Traffic.Peers()
		if len(a) != 1 || len(b) != 1 || a[0].Name != "b" || b[0].Name != "a" {
			t.Fatalf("%+v and %+v", a, b)
		}
		if a[0].SentMessages != 2 || a[0].SentBytes < 100 || a[0].Connections != 1 {
			t.Errorf("a counts %+v", a[0])
		}
		if b[0].ReceivedMessages != 2 || b[0].ReceivedBytes != a[0].SentBytes || b[0].SentBytes != a[0].ReceivedBytes {
			t.Errorf("a counts %+v, b %+v", a[0], b[0])
		}
		c.Close()
		if err := c.SendMessageBatch(text("late")); err == nil {
			t.Error("sent on a closed connection")
		}
		synctest.Wait()
		if a := d.a.Traffic.Peers()[0]; a.LostMessages != 1 || a.Connections != 0 {
			t.Errorf("at the end %+v", a)
		}
	})
}
