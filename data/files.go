package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// format is how a file is read.
type format string

const (
	formatText    format = "plain text"
	formatJSONL   format = "JSON lines"
	formatParquet format = "parquet"
)

var formats = map[string]format{
	".txt": formatText, ".md": formatText, ".text": formatText,
	".jsonl": formatJSONL, ".json": formatJSONL, ".ndjson": formatJSONL,
	".parquet": formatParquet,
}

// hashedBytes is the size up to which a file is identified by its whole content; a larger one by size, time of change and samples.
const hashedBytes = 256 << 20

// sampleBytes is read at the start, middle and end of a file that is not hashed whole.
const sampleBytes = 1 << 20

// source is one file of a corpus.
type source struct {
	path   string
	size   int64
	format format
}

// listFiles returns the files that path names, sorted, with notes on what was passed over.
func listFiles(path string) (files []source, notes []string, err error) {
	var paths []string
	if _, statErr := os.Stat(path); statErr == nil || !strings.Contains(path, ",") {
		paths = []string{path}
	} else {
		paths = strings.Split(path, ",")
	}
	seen := map[string]bool{}
	for _, p := range paths {
		found, foundNotes, err := expand(strings.TrimSpace(p))
		if err != nil {
			return nil, nil, err
		}
		notes = append(notes, foundNotes...)
		for _, f := range found {
			if !seen[f.path] {
				seen[f.path] = true
				files = append(files, f)
			}
		}
	}
	slices.SortFunc(files, func(a, b source) int { return strings.Compare(a.path, b.path) })
	for _, f := range files[1:] {
		if (f.format == formatText) != (files[0].format == formatText) {
			return nil, nil, fmt.Errorf("data: %s is %s and %s is %s: plain text cannot be mixed with rows; read them in separate runs or turn the text into {\"text\": ...} rows",
				files[0].path, files[0].format, f.path, f.format)
		}
	}
	return files, notes, nil
}

// expand resolves one file, folder or glob.
func expand(path string) (files []source, notes []string, err error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return folder(path)
	case err == nil:
		f, err := describe(path, info)
		return []source{f}, nil, err
	case !strings.ContainsAny(path, "*?["):
		return nil, nil, fmt.Errorf("data: %s does not exist", path)
	}
	matches, err := filepath.Glob(path)
	if err != nil {
		return nil, nil, fmt.Errorf("data: pattern %s: %w", path, err)
	}
	for _, m := range matches {
		info, err := os.Stat(m)
		if err != nil {
			return nil, nil, fmt.Errorf("data: %w", err)
		}
		if strings.HasPrefix(filepath.Base(m), ".") && !strings.HasPrefix(filepath.Base(path), ".") {
			notes = append(notes, fmt.Sprintf("%s is hidden: ignored", m))
			continue
		}
		if info.IsDir() {
			notes = append(notes, fmt.Sprintf("%s matches the pattern but is a folder: ignored", m))
			continue
		}
		f, err := describe(m, info)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("data: no file matches %s", path)
	}
	return files, notes, nil
}

// folder lists the files of a folder (not of folders in it) whose extension is known.
func folder(dir string) (files []source, notes []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("data: %w", err)
	}
	var ignored []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			return nil, nil, fmt.Errorf("data: %w", err)
		}
		if _, known := formats[strings.ToLower(filepath.Ext(path))]; !known || info.IsDir() || strings.HasPrefix(e.Name(), ".") {
			ignored = append(ignored, e.Name())
			continue
		}
		f, err := describe(path, info)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("data: folder %s holds no .txt, .md, .jsonl, .json, .ndjson or .parquet file", dir)
	}
	if len(ignored) > 0 {
		notes = append(notes, fmt.Sprintf("%s: ignored %s", dir, shorten(ignored, 5)))
	}
	return files, notes, nil
}

// describe finds a file's format by its extension, else by its content.
func describe(path string, info os.FileInfo) (source, error) {
	f := source{path: path, size: info.Size()}
	if !info.Mode().IsRegular() {
		return f, fmt.Errorf("data: %s is not a regular file", path)
	}
	if info.Size() == 0 {
		return f, fmt.Errorf("data: %s is empty", path)
	}
	known, ok := formats[strings.ToLower(filepath.Ext(path))]
	if f.format = known; ok {
		return f, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return f, fmt.Errorf("data: %w", err)
	}
	defer file.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(file, head)
	if err != nil && n == 0 {
		return f, fmt.Errorf("data: read %s: %w", path, err)
	}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte("PAR1")):
		f.format = formatParquet
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return f, fmt.Errorf("data: %s is compressed; unpack it with gunzip first", path)
	case bytes.IndexByte(head, 0) >= 0 || !utf8.Valid(head[:completeRunes(head)]):
		return f, fmt.Errorf("data: %s is neither text in UTF-8 nor parquet", path)
	default:
		f.format = formatText
	}
	return f, nil
}

// completeRunes is the length of b without a rune cut off at its end.
func completeRunes(b []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if tail := b[len(b)-back:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}

// identify hashes what a cache of the files depends on.
func identify(ctx context.Context, files []source) (string, error) {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d %s\n", f.path, f.size, f.format)
		if err := hashFile(ctx, h, f); err != nil {
			return "", fmt.Errorf("data: read %s: %w", f.path, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashFile(ctx context.Context, h io.Writer, f source) error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if f.size <= hashedBytes {
		_, err = io.Copy(h, contextReader{ctx, file})
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%d\n", info.ModTime().UnixNano())
	for _, at := range []int64{0, f.size / 2, f.size - sampleBytes} {
		if _, err := io.Copy(h, io.NewSectionReader(file, at, sampleBytes)); err != nil {
			return err
		}
	}
	return nil
}

// contextReader ends with the context.
type contextReader struct {
	ctx context.Context
	in  io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}

// shorten joins at most n names and counts the rest.
func shorten(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}
