#ifndef PIER_VALUE_HPP
#define PIER_VALUE_HPP
/*
 * What _Generic and compound literals do in C, for C++17: PIER_ARGS, PIER_NAMED, PIER_INTO, and
 * options.
 * Included by the C headers. Bind NULL as nullptr: C++'s NULL is a number.
 */
#include <type_traits>

inline pier_value pier__of(pier_value value)
{
    return value;
}

inline pier_value pier__of(std::nullptr_t)
{
    return pier_null();
}

inline pier_value pier__of(const char *text)
{
    return pier_text(text);
}

template <class T, class = typename std::enable_if<std::is_arithmetic<T>::value>::type>
inline pier_value pier__of(T number)
{
    static_assert(!std::is_same<T, char>::value,
                  "a char is a letter or a number: cast it, or bind a string");
    if constexpr (std::is_same<T, bool>::value) {
        return pier_bool(number);
    } else if constexpr (std::is_floating_point<T>::value) {
        return pier_double(static_cast<double>(number));
    } else if constexpr (std::is_unsigned<T>::value) {
        return pier_uint64(number);
    } else {
        return pier_int64(number);
    }
}

inline pier_into pier__into_of(bool *to)
{
    return pier__into_bool(to);
}

inline pier_into pier__into_of(int *to)
{
    return pier__into_int(to);
}

inline pier_into pier__into_of(long *to)
{
    return pier__into_long(to);
}

inline pier_into pier__into_of(long long *to)
{
    return pier__into_llong(to);
}

inline pier_into pier__into_of(double *to)
{
    return pier__into_double(to);
}

inline pier_into pier__into_of(char **to)
{
    return pier__into_text(to);
}

inline pier_into pier__into_of(pier_into into)
{
    return into;
}

/* They live until the end of the full expression, which is the call. */
template <size_t N> struct pier__cxx_args {
    pier_value values[N];
    pier_args args;
    const pier_args *get()
    {
        args.count = N;
        args.values = values;
        args.names = nullptr;
        return &args;
    }
};

template <size_t N> struct pier__cxx_named {
    pier_value values[N];
    const char *names[N];
    pier_args args;
    const pier_args *get()
    {
        args.count = N;
        args.values = values;
        args.names = names;
        return &args;
    }
};

template <size_t N> struct pier__cxx_intos {
    pier_into items[N];
    pier_intos intos;
    const pier_intos *get()
    {
        intos.count = N;
        intos.items = items;
        return &intos;
    }
};

template <class... T> inline pier__cxx_args<sizeof...(T)> pier__make_args(const T &...values)
{
    return {{pier__of(values)...}, {0, nullptr, nullptr}};
}

template <class V, class... T>
inline void pier__fill_named(pier_value *to, const char **names, const char *name, const V &value,
                             const T &...rest)
{
    *names = name;
    *to = pier__of(value);
    if constexpr (sizeof...(T) > 0) {
        pier__fill_named(to + 1, names + 1, rest...);
    }
}

template <class... T> inline pier__cxx_named<sizeof...(T) / 2> pier__make_named(const T &...pairs)
{
    static_assert(sizeof...(T) > 0 && sizeof...(T) % 2 == 0, "each name needs a value");
    pier__cxx_named<sizeof...(T) / 2> named;
    pier__fill_named(named.values, named.names, pairs...);
    return named;
}

template <class... T> inline pier__cxx_intos<sizeof...(T)> pier__make_intos(const T &...places)
{
    return {{pier__into_of(places)...}, {0, nullptr}};
}

#define PIER_ARGS(...) (pier__make_args(__VA_ARGS__).get())
#define PIER_NAMED(...) (pier__make_named(__VA_ARGS__).get())
#define PIER_INTO(...) (pier__make_intos(__VA_ARGS__).get())

namespace pier
{
/* pier::options<pier_db_options> options; options.pool_max = 8; pier_db_open(r, url, &options,
 * &err) */
template <class T> struct options : T {
    options() : T{}
    {
        this->struct_size = sizeof(T);
    }
};
} // namespace pier

#endif
