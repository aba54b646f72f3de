package data

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/polargo/polar/tokenizer"
)

// CharTokenizer returns the character vocabulary of the plain text, or of the rows' texts, in path. The files are read as a
// stream. Errors as Open's.
func CharTokenizer(ctx context.Context, path string) (*tokenizer.Char, error) {
	files, _, err := listFiles(path)
	if err != nil {
		return nil, err
	}
	seen := map[rune]struct{}{}
	add := func(texts ...string) error {
		for _, text := range texts {
			for _, r := range text {
				seen[r] = struct{}{}
			}
		}
		return nil
	}
	for _, f := range files {
		if err := fileText(ctx, f, add); err != nil {
			return nil, err
		}
	}
	alphabet := make([]rune, 0, len(seen))
	for r := range seen {
		alphabet = append(alphabet, r)
	}
	slices.Sort(alphabet)
	return tokenizer.NewChar(alphabet)
}

// fileText calls add with the texts of a file.
func fileText(ctx context.Context, f source, add func(texts ...string) error) error {
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer file.Close()
	ofRow := func(r row) error {
		for _, m := range r.messages {
			_ = add(m.Content)
		}
		return add(r.text, r.prompt, r.completion)
	}
	switch f.format {
	case formatText:
		err = textPieces(contextReader{ctx, file}, pieceBytes, func(piece string, _ int64) error { return add(piece) })
	case formatJSONL:
		err = jsonRows(contextReader{ctx, file}, func(r row, _ int64) error { return ofRow(r) })
	default:
		err = parquetRows(file, f.size, func(r row, _, _ int64) error { return errors.Join(ctx.Err(), ofRow(r)) })
	}
	return placed(f.path, err)
}

// placed adds file and line to an error.
func placed(path string, err error) error {
	var at lineError
	switch {
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &at):
		return fmt.Errorf("data: %s:%d: %w", path, at.line, at.err)
	}
	return fmt.Errorf("data: %s: %w", path, err)
}
