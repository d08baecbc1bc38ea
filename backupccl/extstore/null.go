package extstore

import (
	"context"
	"io"
)

// null swallows what is written and holds nothing. It measures how fast data
// can be exported.
type null struct{}

func (null) Put(ctx context.Context, _ string, body io.Reader) error {
	_, err := io.Copy(io.Discard, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return body.Read(p)
	}))
	return err
}
func (null) Open(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, ErrNotExist
}
func (null) List(context.Context, string, string, func(string) error) error { return nil }
func (null) Delete(context.Context, string) error                           { return nil }
func (null) Size(context.Context, string) (int64, error)                    { return 0, ErrNotExist }
func (null) String() string                                                 { return "null:///" }
func (null) Close() error                                                   { return nil }
