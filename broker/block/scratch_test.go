package block

import "testing"

func TestScratch(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 10, 1<<10 + 1, 70_000, 1 << 20, 1<<20 + 1} {
		b := Borrow(size)
		if len(b) != 0 || cap(b) < size {
			t.Fatalf("of %d bytes: %d of %d", size, len(b), cap(b))
		}
		b = append(b, make([]byte, size)...)
		Return(b)
		if again := Borrow(size); len(again) != 0 || cap(again) < size {
			t.Fatalf("again of %d bytes: %d of %d", size, len(again), cap(again))
		}
	}
	Return(nil)
	Return(make([]byte, 3, 1500)) // not one of ours: the next of its class is whole
	if b := Borrow(1500); cap(b) < 1500 {
		t.Fatalf("%d bytes", cap(b))
	}
}
