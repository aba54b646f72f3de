package data

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/polargo/polar/tokenizer"
)

// parquetRows calls each with every row of the file; only the columns used are read. Rows count from 1.
func parquetRows(file *os.File, size int64, each func(r row, number, groupBytes int64) error) (err error) {
	defer func() { // the library panics on some damaged files
		if broken := recover(); broken != nil {
			err = fmt.Errorf("damaged parquet file: %v", broken)
		}
	}()
	f, err := parquet.OpenFile(file, size)
	if err != nil {
		return fmt.Errorf("not a readable parquet file: %w", err)
	}
	layout, err := parquetLayout(f.Schema())
	if err != nil {
		return err
	}
	number := int64(0)
	for g, group := range f.RowGroups() {
		share := size * int64(g) / int64(len(f.RowGroups()))
		cursors := make([]*cursor, len(layout.columns))
		for i, c := range layout.columns {
			cursors[i] = newCursor(group.ColumnChunks()[c])
		}
		err := groupRows(layout, cursors, group.NumRows(), func(r row, rowErr error) error {
			if number++; rowErr == nil {
				rowErr = each(r, number, share)
			}
			if rowErr != nil {
				return lineError{number, rowErr}
			}
			return nil
		})
		for _, c := range cursors {
			c.close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func groupRows(layout columns, cursors []*cursor, rows int64, each func(r row, err error) error) error {
	values := make([][]parquet.Value, len(cursors))
	for range rows {
		for i, c := range cursors {
			var err error
			if values[i], err = c.row(); err != nil {
				return fmt.Errorf("column %s: %w", layout.names[i], err)
			}
		}
		if err := each(layout.row(values)); err != nil {
			return err
		}
	}
	return nil
}

// columns are the leaf columns of the form that a file has: names and indices in the same order.
type columns struct {
	form    form
	names   []string
	columns []int
	also    string
}

// parquetLayout finds the form whose columns are there: messages before prompt and completion before text.
func parquetLayout(schema *parquet.Schema) (columns, error) {
	paths := schema.Columns()
	top, leaf := map[string]bool{}, map[string]int{}
	var names []string
	for i, path := range paths {
		if !top[path[0]] {
			names = append(names, path[0])
		}
		top[path[0]] = true
		// a list's column is messages.list.element.role, with other names between in older files
		leaf[path[0]+"."+path[len(path)-1]] = i
		if len(path) == 1 {
			leaf[path[0]] = i
		}
	}
	var found []columns
	for _, want := range []columns{
		{form: formChat, names: []string{"messages.role", "messages.content"}},
		{form: formPair, names: []string{"prompt", "completion"}},
		{form: formText, names: []string{"text"}},
	} {
		all := true
		for _, name := range want.names {
			i, ok := leaf[name]
			want.columns = append(want.columns, i)
			all = all && ok
		}
		if all {
			found = append(found, want)
		}
	}
	if len(found) == 0 {
		return columns{}, fmt.Errorf("found columns %s; %s (messages as a list of structs with role and content)", shorten(names, 8), wantKeys)
	}
	chosen := found[0]
	if len(found) > 1 {
		chosen.also = fmt.Sprintf("%s is used, %s is not", strings.Join(chosen.names, " and "), strings.Join(found[1].names, " and "))
	}
	for i, c := range chosen.columns {
		column, _ := schema.Lookup(paths[c]...)
		if kind := column.Node.Type().Kind(); kind != parquet.ByteArray {
			return columns{}, fmt.Errorf("column %s is %v, want a string", chosen.names[i], column.Node.Type())
		}
		if repeated := column.MaxRepetitionLevel; (chosen.form == formChat) != (repeated == 1) {
			return columns{}, fmt.Errorf("column %s repeats at %d levels, want %s", chosen.names[i], repeated,
				map[bool]string{true: "a list of structs", false: "one string a row"}[chosen.form == formChat])
		}
	}
	return chosen, nil
}

// row assembles one row from the values of its columns.
func (c columns) row(values [][]parquet.Value) (row, error) {
	r := row{form: c.form, also: c.also}
	text := func(column, i int) (string, error) {
		v := values[column][i]
		if v.IsNull() {
			return "", fmt.Errorf("%s is null, want a string", c.names[column])
		}
		if at := invalidAt(v.ByteArray()); at >= 0 {
			return "", fmt.Errorf("%s: byte %d is not UTF-8", c.names[column], at+1)
		}
		return string(v.ByteArray()), nil
	}
	var err, err2 error
	switch c.form {
	case formText:
		r.text, err = text(0, 0)
	case formPair:
		r.prompt, err = text(0, 0)
		r.completion, err2 = text(1, 0)
	case formChat:
		if len(values[0]) != len(values[1]) {
			return r, errors.New("messages has unequal numbers of roles and contents")
		}
		if len(values[0]) == 1 && values[0][0].IsNull() && values[1][0].IsNull() {
			return r, nil // an empty list
		}
		for i := range values[0] {
			var m tokenizer.Message
			m.Role, err = text(0, i)
			m.Content, err2 = text(1, i)
			if err != nil || err2 != nil {
				break
			}
			r.messages = append(r.messages, m)
		}
	}
	if err == nil {
		err = err2
	}
	return r, err
}

// cursor reads a column chunk row by row.
type cursor struct {
	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buffer []parquet.Value
	at, n  int
	done   bool
	out    []parquet.Value
}

func newCursor(chunk parquet.ColumnChunk) *cursor {
	return &cursor{pages: chunk.Pages(), buffer: make([]parquet.Value, 64)}
}

// row returns the values of the next row, valid until the next call; at least one (null where there is none).
func (c *cursor) row() ([]parquet.Value, error) {
	c.out = c.out[:0]
	for {
		if c.at == c.n {
			if err := c.fill(); err != nil {
				return nil, err
			}
			if c.done {
				if len(c.out) == 0 {
					return nil, errors.New("fewer values than rows")
				}
				return c.out, nil
			}
		}
		if v := c.buffer[c.at]; len(c.out) == 0 || v.RepetitionLevel() > 0 {
			c.out = append(c.out, v.Clone()) // a value's bytes belong to its page
			c.at++
			continue
		}
		return c.out, nil
	}
}

// fill reads more values; done says that there are none.
func (c *cursor) fill() error {
	for !c.done {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				c.done = true
				return nil
			}
			if err != nil {
				return err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if c.at, c.n = 0, n; errors.Is(err, io.EOF) {
			// the values read may lie in the page: copy them before it goes
			for i := range n {
				c.buffer[i] = c.buffer[i].Clone()
			}
			parquet.Release(c.page)
			c.page, c.values = nil, nil
		}
		if n > 0 {
			return nil
		}
	}
	return nil
}

func (c *cursor) close() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	_ = c.pages.Close()
}
