//! The images of a batch, read element by element.

/// Images of one size.
pub trait Images: Sync {
    /// Number of images, and values of each.
    fn shape(&self) -> (usize, usize);

    /// Element `element` of every image, in place of what `slots` holds.
    fn element(&self, element: usize, slots: &mut Vec<f64>);
}

/// Flat tensors. Elements that one lacks are zero.
impl<T: AsRef<[f32]> + Sync> Images for Vec<T> {
    fn shape(&self) -> (usize, usize) {
        (self.len(), self.first().map_or(0, |image| image.as_ref().len()))
    }

    fn element(&self, element: usize, slots: &mut Vec<f64>) {
        slots.clear();
        slots.extend(self.iter().map(|image| image.as_ref().get(element).map_or(0.0, |&x| f64::from(x))));
    }
}

/// Values that are whole 255ths, in a byte each: large batches of pictures fit memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pixels {
    len: usize,
    bytes: Vec<u8>,
}

impl Pixels {
    /// No images of `len` values.
    pub fn new(len: usize) -> Self {
        Self { len, bytes: Vec::new() }
    }

    /// Adds an image. Values are from 0 to 1 and rounded to 255ths; missing ones are 0.
    pub fn push(&mut self, image: &[f32]) {
        let start = self.bytes.len();
        self.bytes.extend(image.iter().take(self.len).map(|&x| (x * 255.0).round() as u8));
        self.bytes.resize(start + self.len, 0);
    }

    /// All bytes, image by image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.bytes.len().checked_div(self.len).unwrap_or(0)
    }
}

impl Images for Pixels {
    fn shape(&self) -> (usize, usize) {
        (self.count(), self.len)
    }

    fn element(&self, element: usize, slots: &mut Vec<f64>) {
        slots.clear();
        slots
            .extend(self.bytes.iter().skip(element).step_by(self.len.max(1)).map(|&x| f64::from(f32::from(x) / 255.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_the_values_of_pictures() {
        let images: Vec<Vec<f32>> = (0..3).map(|i| (0..5).map(|k| ((i * 80 + k) as f32) / 255.0).collect()).collect();
        let mut pixels = Pixels::new(5);
        images.iter().for_each(|image| pixels.push(image));
        assert_eq!(pixels.shape(), images.shape());
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for element in 0..5 {
            pixels.element(element, &mut a);
            images.element(element, &mut b);
            assert_eq!(a, b);
        }
    }
}
