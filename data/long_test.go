package data

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/polargo/polar/internal/check"
)

// TestMemoryIsBounded reads files of 200 MB under a soft limit and watches the heap: it must not grow with the file.
func TestMemoryIsBounded(t *testing.T) {
	check.Long(t)
	const (
		fileBytes = 200 << 20
		mostHeap  = 48 << 20 // a piece of text is 1 MB of bytes and 8 MB of ids, and the old ones await collection
	)
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	for _, name := range []string{"big.txt", "big.jsonl"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			file, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			out := bufio.NewWriterSize(file, 1<<20)
			for i, n := 0, 0; n < fileBytes; i++ {
				line := fmt.Sprintf("line %d of a file that is larger than what may be in memory\n", i)
				if name == "big.jsonl" {
					line = fmt.Sprintf("{\"prompt\": \"row %d of a file that is larger than\", \"completion\": \"what may be in memory\"}\n", i)
				}
				written, _ := out.WriteString(line)
				n += written
			}
			if err := out.Flush(); err != nil {
				t.Fatal(err)
			}
			_ = file.Close()
			most, began := uint64(0), time.Now()
			o := settings(t, path, func(o *Options) {
				o.Packing, o.Length, o.ValidationFraction = true, 256, 0.01
				o.Progress = func(_, _ int64) { most = max(most, heap()) }
			})
			c, err := Open(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for step := range int64(500) {
				_ = mustBatch(t, c.Train(), step, 8)
			}
			most = max(most, heap())
			t.Logf("%s: %.1f s, heap at most %d MB", name, time.Since(began).Seconds(), most>>20)
			if most > mostHeap {
				t.Errorf("heap %d MB, want at most %d MB", most>>20, mostHeap>>20)
			}
		})
	}
}
