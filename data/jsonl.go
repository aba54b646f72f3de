package data

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxLineBytes bounds one line of JSON, which is held in memory; a variable for the tests.
var maxLineBytes = 64 << 20

// jsonRows calls each with every row of r; blank lines are passed over. Errors are lineErrors.
func jsonRows(r io.Reader, each func(r row, line int64) error) error {
	in := bufio.NewReaderSize(r, ioBytes)
	var line []byte
	for number := int64(1); ; number++ {
		var err error
		line, err = readLine(in, line[:0])
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return lineError{number, err}
		}
		if number == 1 {
			line = bytes.TrimPrefix(line, utf8BOM)
		}
		text := bytes.TrimSpace(line)
		if number == 1 && len(text) > 0 && text[0] == '[' {
			return lineError{number, errors.New("the file is a JSON array; write one object a line (jq -c '.[]' does)")}
		}
		if len(text) > 0 {
			// The column counts from the line's beginning, so leading space stays.
			parsed, err := parseRow(bytes.TrimRight(line, "\r\n"))
			if err == nil {
				err = each(parsed, number)
			}
			if err != nil {
				return lineError{number, err}
			}
		}
		if last {
			return nil
		}
	}
}

// readLine appends the next line to dst, line break included; io.EOF comes with the last one.
func readLine(in *bufio.Reader, dst []byte) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(dst)+len(part) > maxLineBytes {
			return dst, fmt.Errorf("the line is longer than %d MB; cut it into several rows", maxLineBytes>>20)
		}
		dst = append(dst, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return dst, err
		}
	}
}
