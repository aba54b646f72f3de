package data

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// writeParquet writes rows in groups of `group` rows and pages of a few bytes, so that rows cross both.
func writeParquet[T any](t testing.TB, rows []T, group int) string {
	t.Helper()
	var out bytes.Buffer
	w := parquet.NewGenericWriter[T](&out, parquet.PageBufferSize(256))
	for i, r := range rows {
		if _, err := w.Write([]T{r}); err != nil {
			t.Fatal(err)
		}
		if (i+1)%group == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.parquet")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

type pairRow struct {
	Completion string    `parquet:"completion"`
	Extra      []float64 `parquet:"extra"`
	Prompt     *string   `parquet:"prompt,optional"`
}

type chatMessage struct {
	Content *string `parquet:"content,optional"`
	Role    string  `parquet:"role"`
}

type chatRow struct {
	ID       int64         `parquet:"id"`
	Messages []chatMessage `parquet:"messages,list"`
}

// readRows reads a parquet file as Open does.
func readRows(t testing.TB, path string) (rows []row, err error) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, _ := file.Stat()
	err = parquetRows(file, info.Size(), func(r row, number, _ int64) error {
		if rows = append(rows, r); int64(len(rows)) != number {
			t.Fatalf("row %d has number %d", len(rows), number)
		}
		return nil
	})
	return rows, err
}

func TestParquetPairs(t *testing.T) {
	var in []pairRow
	for i := range 500 {
		prompt := fmt.Sprint("prompt ", i)
		in = append(in, pairRow{Prompt: &prompt, Completion: strings.Repeat("c", i%7) + fmt.Sprint(i), Extra: make([]float64, i%3)})
	}
	rows, err := readRows(t, writeParquet(t, in, 70))
	if err != nil || len(rows) != len(in) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, r := range rows {
		if r.form != formPair || r.prompt != *in[i].Prompt || r.completion != in[i].Completion {
			t.Fatalf("row %d is %+v, want %+v", i, r, in[i])
		}
	}
}

func TestParquetMessages(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var in []chatRow
	for i := range 300 {
		r := chatRow{ID: int64(i)}
		for k := range random.IntN(6) {
			text := fmt.Sprint("message ", i, " ", k)
			r.Messages = append(r.Messages, chatMessage{&text, []string{"user", "assistant"}[k%2]})
		}
		in = append(in, r)
	}
	rows, err := readRows(t, writeParquet(t, in, 64))
	if err != nil || len(rows) != len(in) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, r := range rows {
		if len(r.messages) != len(in[i].Messages) {
			t.Fatalf("row %d has %d messages, want %d", i, len(r.messages), len(in[i].Messages))
		}
		for k, m := range r.messages {
			if m.Role != in[i].Messages[k].Role || m.Content != *in[i].Messages[k].Content {
				t.Fatalf("row %d, message %d is %+v", i, k, m)
			}
		}
	}
}

func TestParquetErrors(t *testing.T) {
	text, prompt := "x", "p"
	for name, test := range map[string]struct{ path, want string }{
		"null":        {writeParquet(t, []pairRow{{Prompt: &prompt, Completion: "c"}, {Completion: "c"}}, 9), "a.parquet:2: prompt is null, want a string"},
		"null inside": {writeParquet(t, []chatRow{{Messages: []chatMessage{{&text, "user"}, {nil, "assistant"}}}}, 9), "a.parquet:1: messages.content is null"},
		"columns":     {writeParquet(t, []struct{ Question, Answer string }{{"q", "a"}}, 9), "found columns Question, Answer; want text"},
		"type": {writeParquet(t, []struct {
			Text int64 `parquet:"text"`
		}{{1}}, 9), "column text is INT(64,true), want a string"},
		"list": {writeParquet(t, []struct {
			Text []string `parquet:"text"`
		}{{[]string{"a"}}}, 9), "column text repeats at 1 levels, want one string a row"},
		"no rows":          {writeParquet(t, []pairRow{}, 9), "a.parquet: no rows"},
		"empty completion": {writeParquet(t, []pairRow{{Prompt: &prompt, Completion: ""}}, 9), "a.parquet:1: completion is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(context.Background(), settings(t, test.path, nil))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestDamagedParquet flips and cuts bytes everywhere: an error or other text, never a panic.
func TestDamagedParquet(t *testing.T) {
	prompt := "prompt"
	var in []pairRow
	for i := range 20 {
		in = append(in, pairRow{Prompt: &prompt, Completion: fmt.Sprint("completion ", i)})
	}
	good, err := os.ReadFile(writeParquet(t, in, 8))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	failed := 0
	const trials = 300
	for range trials {
		bad := bytes.Clone(good)
		if random.IntN(4) == 0 {
			bad = bad[:random.IntN(len(bad)-8)+8]
		} else {
			bad[random.IntN(len(bad))] ^= byte(1 << random.IntN(8))
		}
		path := filepath.Join(t.TempDir(), "a.parquet")
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readRows(t, path); err != nil {
			failed++
		}
	}
	if failed < trials/4 {
		t.Errorf("only %d of %d damaged files were refused", failed, trials)
	}
}
