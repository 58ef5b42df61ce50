//! Constants decoded from the file, or from one beside it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::{TensorProto, data_type};

/// The largest number of elements of a tensor; keeps indices in 32 bits and sizes far from overflow.
pub const MAX_ELEMENTS: usize = 1 << 27;

/// Number of elements of a shape, or why it cannot be a tensor. Axes beside an empty one are bounded likewise, so that
/// the product of any of them is.
pub(crate) fn elements(dims: &[usize]) -> Result<usize, String> {
    let empty = dims.contains(&0);
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))
        .filter(|&n| n <= MAX_ELEMENTS)
        .map(|n| if empty { 0 } else { n })
        .ok_or_else(|| format!("shape {dims:?} has more than {MAX_ELEMENTS} elements"))
}

/// The largest number of elements of what is computed: a few bytes of a file can ask for any shape, while its constants
/// are no larger than itself.
pub const MAX_COMPUTED: usize = 1 << 22;

/// [`elements`] of a tensor that is computed from one of `from` elements.
pub(crate) fn computed(dims: &[usize], from: usize) -> Result<usize, String> {
    let n = elements(dims)?;
    if n > MAX_COMPUTED.max(from) {
        return Err(format!("shape {dims:?} has more than {MAX_COMPUTED} elements, the most that are computed"));
    }
    Ok(n)
}

/// A decoded constant; integers are exact up to 2^53 and saturate beyond, as slice ends do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    pub dims: Vec<usize>,
    pub values: Vec<f64>,
    pub integer: bool,
}

impl Constant {
    pub fn ints(values: impl IntoIterator<Item = usize>) -> Self {
        let values: Vec<f64> = values.into_iter().map(|v| v as f64).collect();
        Self { dims: vec![values.len()], values, integer: true }
    }

    pub fn floats(values: impl IntoIterator<Item = f32>) -> Self {
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        Self { dims: vec![values.len()], values, integer: false }
    }

    /// The value of a tensor with one element.
    pub fn scalar(&self) -> Option<f64> {
        (self.values.len() == 1).then(|| self.values[0])
    }

    pub fn to_i64(&self) -> Vec<i64> {
        self.values.iter().map(|&v| v as i64).collect()
    }

    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    /// Decodes a tensor; external data is read from inside `folder`.
    pub fn decode(tensor: &TensorProto, folder: &Path) -> Result<Self, String> {
        let dims = tensor
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| format!("has the negative dimension {d}")))
            .collect::<Result<Vec<_>, _>>()?;
        let count = elements(&dims)?;
        let width = match tensor.data_type {
            data_type::FLOAT | data_type::INT32 => 4,
            data_type::INT64 | data_type::DOUBLE => 8,
            data_type::BOOL => 1,
            other => {
                return Err(format!(
                    "has the element type {} which is not supported; export float32 weights",
                    type_name(other)
                ));
            }
        };
        let external;
        let raw = if tensor.data_location == 1 {
            external = external_bytes(tensor, folder, count * width)?;
            Some(external.as_slice())
        } else {
            tensor.raw_data.as_deref()
        };
        let integer = !matches!(tensor.data_type, data_type::FLOAT | data_type::DOUBLE);
        let values: Vec<f64> = match raw {
            Some(raw) => {
                if raw.len() != count * width {
                    return Err(format!("holds {} bytes where its shape {dims:?} needs {}", raw.len(), count * width));
                }
                decode_raw(raw, tensor.data_type)
            }
            None => match tensor.data_type {
                data_type::FLOAT => tensor.float_data.iter().map(|&v| f64::from(v)).collect(),
                data_type::DOUBLE => tensor.double_data.clone(),
                data_type::INT64 => tensor.int64_data.iter().map(|&v| v as f64).collect(),
                _ => tensor.int32_data.iter().map(|&v| f64::from(v)).collect(),
            },
        };
        if values.len() != count {
            return Err(format!("holds {} elements where its shape {dims:?} needs {count}", values.len()));
        }
        Ok(Self { dims, values, integer })
    }
}

fn decode_raw(raw: &[u8], data_type: i32) -> Vec<f64> {
    let (four, eight) = (raw.as_chunks::<4>().0, raw.as_chunks::<8>().0);
    match data_type {
        data_type::FLOAT => four.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        data_type::INT32 => four.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect(),
        data_type::INT64 => eight.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
        data_type::DOUBLE => eight.iter().map(|&b| f64::from_le_bytes(b)).collect(),
        _ => raw.iter().map(|&b| f64::from(b != 0)).collect(),
    }
}

fn type_name(data_type: i32) -> String {
    match data_type {
        2 => "uint8".into(),
        3 => "int8".into(),
        8 => "string".into(),
        10 => "float16".into(),
        16 => "bfloat16".into(),
        other => format!("number {other}"),
    }
}

/// Reads `needed` bytes from the file beside the model that the tensor names.
fn external_bytes(tensor: &TensorProto, folder: &Path, needed: usize) -> Result<Vec<u8>, String> {
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| {
        entry(key)
            .map(|v| v.parse::<u64>().map_err(|_| format!("has the external data {key} {v:?}, not a number")))
            .transpose()
    };
    let location = entry("location").filter(|l| !l.is_empty()).ok_or("names no external data file")?;
    let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let outside =
        || format!("refers to external data at {location:?}, outside the model's folder; keep it beside the model");
    if !inside {
        return Err(outside());
    }
    let unreadable =
        |e: std::io::Error| format!("external data file {location:?} cannot be read: {e}; keep it beside the model");
    let root = folder.canonicalize().map_err(unreadable)?;
    let path = root.join(location).canonicalize().map_err(unreadable)?;
    if !path.starts_with(&root) {
        return Err(outside());
    }
    let offset = number("offset")?.unwrap_or(0);
    if let Some(length) = number("length")?
        && length != needed as u64
    {
        return Err(format!("has {length} bytes of external data where its shape needs {needed}"));
    }
    let mut file = File::open(&path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if offset.checked_add(needed as u64).is_none_or(|end| end > size) {
        return Err(format!(
            "needs bytes {offset} to {} of {location:?}, which has {size}; the file is cut or belongs to another model",
            offset.saturating_add(needed as u64)
        ));
    }
    let mut bytes = vec![0; needed];
    file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
    file.read_exact(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::StringStringEntryProto;
    use super::*;

    fn tensor(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { dims: dims.to_vec(), data_type, name: "w".into(), ..Default::default() }
    }

    #[test]
    fn every_storage_of_elements() {
        let here = Path::new(".");
        let mut t = tensor(data_type::FLOAT, &[2]);
        t.raw_data = Some([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect());
        assert_eq!(Constant::decode(&t, here).unwrap().values, [1.5, -2.0]);
        t.raw_data = None;
        t.float_data = vec![3.0, 4.0];
        assert_eq!(Constant::decode(&t, here).unwrap().values, [3.0, 4.0]);
        let mut t = tensor(data_type::INT64, &[]);
        t.raw_data = Some((-7i64).to_le_bytes().to_vec());
        assert_eq!(Constant::decode(&t, here).unwrap().to_i64(), [-7]);
        let mut t = tensor(data_type::DOUBLE, &[1]);
        t.double_data = vec![0.25];
        assert!(!Constant::decode(&t, here).unwrap().integer);
        let mut t = tensor(data_type::INT32, &[1]);
        t.int32_data = vec![9];
        assert_eq!(Constant::decode(&t, here).unwrap().scalar(), Some(9.0));
    }

    #[test]
    fn wrong_sizes_and_types_are_named() {
        let fails = |t: &TensorProto| Constant::decode(t, Path::new(".")).unwrap_err();
        assert!(fails(&tensor(data_type::FLOAT, &[3])).contains("holds 0 elements"));
        assert!(fails(&tensor(10, &[1])).contains("float16"));
        assert!(fails(&tensor(data_type::FLOAT, &[-1])).contains("negative"));
        assert!(fails(&tensor(data_type::FLOAT, &[i64::MAX, i64::MAX])).contains("more than"));
        let mut t = tensor(data_type::FLOAT, &[2]);
        t.raw_data = Some(vec![0; 7]);
        assert!(fails(&t).contains("holds 7 bytes"));
    }

    #[test]
    fn external_data_stays_beside_the_model() {
        let folder = std::env::temp_dir().join(format!("cipherlens-onnx-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("model")).unwrap();
        std::fs::write(folder.join("secret"), [0; 64]).unwrap();
        let bytes: Vec<u8> = [0.0f32, 1.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join("model/w.data"), bytes).unwrap();
        let read = |location: &str, offset: &str, length: &str| {
            let mut t = tensor(data_type::FLOAT, &[2]);
            t.data_location = 1;
            t.external_data = [("location", location), ("offset", offset), ("length", length)]
                .map(|(k, v)| StringStringEntryProto { key: k.into(), value: v.into() })
                .to_vec();
            Constant::decode(&t, &folder.join("model"))
        };
        assert_eq!(read("w.data", "4", "8").unwrap().values, [1.0, 2.0]);
        let reason = |r: Result<Constant, String>| r.unwrap_err();
        assert!(reason(read("../secret", "0", "8")).contains("outside the model's folder"));
        assert!(reason(read(folder.join("secret").to_str().unwrap(), "0", "8")).contains("outside"));
        assert!(reason(read("w.data", "8", "8")).contains("which has 12"));
        assert!(reason(read("w.data", "18446744073709551615", "8")).contains("which has 12"));
        assert!(reason(read("w.data", "0", "4")).contains("needs 8"));
        assert!(reason(read("w.data", "x", "8")).contains("not a number"));
        assert!(reason(read("none.data", "0", "8")).contains("cannot be read"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.join("secret"), folder.join("model/link")).unwrap();
            assert!(reason(read("link", "0", "8")).contains("outside"));
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
