//! What must hold for any bytes whatever: the bodies of the fuzz targets, run by property tests too.
